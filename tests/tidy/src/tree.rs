//! The files of the project, as git sees them.

use std::path::PathBuf;
use std::process::Command;

/// Every file that is committed or would be.
pub(crate) struct Tree {
    root: PathBuf,
    files: Vec<String>,
}

impl Tree {
    pub(crate) fn open() -> Self {
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let output = Command::new("git")
            .args([
                "ls-files",
                "--cached",
                "--others",
                "--exclude-standard",
                "-z",
            ])
            .current_dir(&root)
            .output()
            .expect("git runs");
        assert!(output.status.success(), "git ls-files failed");
        let names = String::from_utf8(output.stdout).expect("file names are UTF-8");
        let files = names
            .split_terminator('\0')
            .filter(|file| root.join(file).is_file())
            .map(String::from)
            .collect();
        Self { root, files }
    }

    /// Paths from the root, of files whose path satisfies `wanted`.
    pub(crate) fn files(&self, wanted: impl Fn(&str) -> bool) -> Vec<&str> {
        let files = self.files.iter().map(String::as_str);
        files.filter(|file| wanted(file)).collect()
    }

    /// The content of a file; empty where it is not text.
    pub(crate) fn read(&self, file: &str) -> String {
        let bytes =
            std::fs::read(self.root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// Path and content of files whose path satisfies `wanted`.
    pub(crate) fn texts(&self, wanted: impl Fn(&str) -> bool) -> Vec<(&str, String)> {
        let files = self.files(wanted);
        files
            .into_iter()
            .map(|file| (file, self.read(file)))
            .collect()
    }
}

/// Whether a file holds tests only; the rules on product code leave it alone.
pub(crate) fn is_test(file: &str) -> bool {
    file.split('/')
        .any(|part| part == "tests" || part == "test" || part == "compat")
        || file.ends_with("/tests.rs")
        || file.ends_with("_tests.rs")
        || file.contains(".test.")
}
