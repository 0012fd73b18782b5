//! Puts the chat pages into the binary, if they are built: without Node the rest is built all the same, and the pages say
//! what is missing.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

/// Where `npm run build` leaves the pages. Only the folder around it is always there, and can be watched.
const WATCHED: &str = "../../clients/examples/built";
const PAGES: &str = "../../clients/examples/built/dist";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={WATCHED}");
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGES);
    let mut files = files(&pages)?;
    files.extend(files_below(&pages, "assets")?);
    let mut list = String::from("&[\n");
    for (name, path) in files {
        let _ = writeln!(list, "(\"{name}\", include_bytes!({path:?})),");
    }
    list.push(']');
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from);
    let out = out.ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(out.join("pages.rs"), list)
}

/// The files of a folder, by name; none if there is no such folder.
fn files(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            found.push((
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            ));
        }
    }
    found.sort();
    Ok(found)
}

/// The same of a folder below, named by their path.
fn files_below(pages: &Path, folder: &str) -> io::Result<Vec<(String, PathBuf)>> {
    let found = files(&pages.join(folder))?;
    Ok(found
        .into_iter()
        .map(|(name, path)| (format!("{folder}/{name}"), path))
        .collect())
}
