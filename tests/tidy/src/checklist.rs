//! The checklist of the protocol: every line names a test that exists, or says why there is none.

/// What is wrong with a checklist, given whether a test exists.
fn offences(checklist: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut expected = 0_u32;
    let mut found = Vec::new();
    for line in checklist.lines() {
        let cells: Vec<_> = line.split(" | ").collect();
        let [number, _, proof] = &*cells else {
            continue;
        };
        let Ok(number) = number.trim_start_matches("| ").parse::<u32>() else {
            continue;
        };
        expected += 1;
        if number != expected {
            found.push(format!("line {number} should be {expected}"));
        }
        let proof = proof.trim_end_matches(" |");
        let tests: Vec<_> = proof.split('`').skip(1).step_by(2).collect();
        let missing = tests.iter().filter(|test| {
            test.contains('_')
                && test
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
                && !exists(test)
        });
        found.extend(missing.map(|test| format!("line {number} names {test}, which is no test")));
        let has_reason = proof
            .strip_prefix("not shown: ")
            .is_some_and(|reason| reason.len() > 10);
        if tests.is_empty() && !has_reason {
            found.push(format!("line {number} has neither a test nor a reason"));
        }
    }
    if expected == 0 {
        found.push("the checklist has no lines".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{assert_clean, tree::Tree};

    #[test]
    fn tells_what_is_missing() {
        let checklist = "| | Promise | Shown by |\n| 1 | a | `there_is` |\n| 2 | b | not shown: for this reason |\n\
            | 4 | c | `there_is_not` |\n| 4 | d | nothing |\n";
        assert_eq!(
            offences(checklist, |test| test == "there_is"),
            [
                "line 4 should be 3",
                "line 4 names there_is_not, which is no test",
                "line 4 has neither a test nor a reason",
            ]
        );
        assert_eq!(offences("", |_| true).len(), 1);
    }

    #[test]
    fn every_promise_of_the_protocol_is_shown_or_explained() {
        let tree = Tree::open();
        let sources = tree.texts(|file| file.ends_with(".rs"));
        let exists = |test: &str| {
            let definition = format!("fn {test}(");
            sources.iter().any(|(_, text)| text.contains(&definition))
        };
        let checklist = tree.read("tests/e2e/PROTOCOL_CHECKLIST.md");
        assert_clean("the checklist", &offences(&checklist, exists));
    }
}
