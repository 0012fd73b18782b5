//! The page at `/`: a live view of one table, in one file that needs no build and loads nothing. It leads to the two pages
//! of the booking chat, which are built apart ([`chat`]).

pub(crate) mod chat;

use std::sync::Arc;

use serde_json::json;

const TEMPLATE: &str = include_str!("page/live.html");
/// Where the template takes its first values.
const PLACE: &str = "{\"prefill\":null}";

/// What the form holds at first.
#[derive(Debug, Default, Clone)]
pub(crate) struct Prefill {
    /// Token or key.
    pub(crate) key: String,
    /// `schema.table`.
    pub(crate) table: String,
    /// Filter.
    pub(crate) filter: String,
    /// Where `/chat` and `/desk` show something, below this page.
    pub(crate) chat: Option<(String, String)>,
}

/// The page with `prefill` in its form.
pub(crate) fn html(prefill: &Prefill) -> Arc<str> {
    let (chat, desk) = prefill.chat.clone().unzip();
    let values = json!({
        "key": prefill.key, "table": prefill.table, "filter": prefill.filter, "chat": chat, "desk": desk,
    });
    // Inside a script element `<` could end it or begin a comment.
    let values = values.to_string().replace('<', "\\u003c");
    TEMPLATE.replacen(PLACE, &values, 1).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_prefilled_and_nothing_breaks_out_of_it() {
        assert_eq!(TEMPLATE.matches(PLACE).count(), 1);
        let filter = "content=eq.</script><script>alert(1)".to_owned();
        let page = html(&Prefill {
            key: "k".to_owned(),
            table: "public.t".to_owned(),
            filter,
            chat: Some(("chat?booking=1".to_owned(), "desk".to_owned())),
        });
        assert!(page.contains("\"table\":\"public.t\""));
        assert!(page.contains("\"chat\":\"chat?booking=1\""));
        assert!(page.contains("\\u003c/script>\\u003cscript>"));
        assert_eq!(page.matches("</script>").count(), 2, "the template's own");
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        let links = TEMPLATE
            .replace(r#"href="chat""#, "")
            .replace(r#"href="desk""#, "");
        for reference in ["src=", "href=", "@import", "url("] {
            assert!(!links.contains(reference), "{reference}");
        }
    }
}
