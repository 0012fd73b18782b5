//! The folder that the demo keeps between runs: its database, its secret, its password.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{DemoError, account::Account};
use crate::{config, secret::Secret};

/// Random bytes of a new secret.
const SECRET_BYTES: usize = 32;

/// The state folder, locked against a second demo for as long as this lives.
#[derive(Debug)]
pub(super) struct State {
    folder: PathBuf,
    _lock: File,
}

impl State {
    /// Opens the folder, making it if need be. `account` can enter it.
    pub(super) fn open(demo: &config::Demo, account: &Account) -> Result<Self, DemoError> {
        let folder = choose(demo, account)?;
        if let Some(checkout) = checkout_above(&folder).map(Path::to_owned) {
            return Err(DemoError::BelowCheckout { folder, checkout });
        }
        let shown = folder.display().to_string();
        fs::create_dir_all(&folder).map_err(DemoError::io(format!("create {shown}")))?;
        let owner = fs::metadata(&folder)
            .map_err(DemoError::io(format!("look at {shown}")))?
            .uid();
        if owner != rustix::process::geteuid().as_raw() {
            return Err(DemoError::ForeignState(folder));
        }
        let mode = match account {
            Account::Own => 0o700,
            Account::Other { .. } => 0o711,
        };
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode))
            .map_err(DemoError::io(format!("set the permissions of {shown}")))?;
        if let Some(barrier) = account.barrier(&folder) {
            let (barrier, account) = (barrier.to_owned(), account.name().to_owned());
            return Err(DemoError::ClosedState {
                folder,
                barrier,
                account,
            });
        }
        let lock = private(
            OpenOptions::new().create(true).truncate(false),
            &folder.join("lock"),
        )
        .map_err(DemoError::io(format!("open the lock in {shown}")))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                folder,
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(DemoError::Running(folder)),
            Err(TryLockError::Error(error)) => Err(DemoError::io("lock the state folder")(error)),
        }
    }

    /// The file that holds the URL of the demo's own database while it runs.
    pub(super) fn database_url_file(&self) -> PathBuf {
        self.folder.join("database-url")
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The secret called `name`, made on the first call of all runs and readable only by us.
    pub(super) fn secret(&self, name: &str) -> Result<Secret, DemoError> {
        let path = self.folder.join(name);
        match fs::read_to_string(&path) {
            Ok(text) if text.len() == 2 * SECRET_BYTES => Ok(Secret::new(text)),
            Ok(_) => self.make_secret(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_secret(&path),
            Err(error) => Err(DemoError::io(format!("read {}", path.display()))(error)),
        }
    }

    fn make_secret(&self, path: &Path) -> Result<Secret, DemoError> {
        let mut bytes = [0_u8; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| DemoError::NoRandomness)?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.write_private(path, &text)?;
        Ok(Secret::new(text))
    }

    /// Writes `text` to the file at `path`, which only we can read.
    pub(super) fn write_private(&self, path: &Path, text: &str) -> Result<(), DemoError> {
        // Written aside and renamed: a run that is killed here leaves no half secret.
        let aside = path.with_extension("new");
        private(OpenOptions::new().create(true).truncate(true), &aside)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&aside, path))
            .map_err(DemoError::io(format!("write {}", path.display())))
    }
}

fn private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.write(true).mode(0o600).open(path)
}

fn choose(demo: &config::Demo, account: &Account) -> Result<PathBuf, DemoError> {
    if let Some(named) = &demo.dir {
        return std::path::absolute(named)
            .map_err(DemoError::io("make the state folder's path absolute"));
    }
    match (account, &demo.state_home) {
        (Account::Other { .. }, _) => Ok(PathBuf::from("/var/lib/pgrelay-demo")),
        (Account::Own, Some(home)) => Ok(home.join("pgrelay-demo")),
        (Account::Own, None) => Err(DemoError::NoHome),
    }
}

/// The source checkout that `folder` is in, if any: data does not belong there.
fn checkout_above(folder: &Path) -> Option<&Path> {
    folder
        .ancestors()
        .find(|above| above.join("crates/server/Cargo.toml").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> Result<State, DemoError> {
        let demo = config::Demo {
            pg_bin: None,
            dir: Some(folder.to_owned()),
            path: String::new(),
            state_home: None,
            cache_home: None,
        };
        State::open(&demo, &Account::Own)
    }

    #[test]
    fn a_secret_is_made_once_and_is_private() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("state");
        let first = open(&folder).unwrap().secret("jwt-secret").unwrap();
        let second = open(&folder).unwrap().secret("jwt-secret").unwrap();
        assert_eq!(first.reveal(), second.reveal());
        assert_eq!(first.reveal().len(), 64);
        let mode = fs::metadata(folder.join("jwt-secret"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn one_folder_serves_one_demo_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let running = open(root.path()).unwrap();
        assert!(matches!(open(root.path()), Err(DemoError::Running(_))));
        drop(running);
        assert!(open(root.path()).is_ok());
    }

    #[test]
    fn no_state_is_kept_in_a_checkout() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("crates/server")).unwrap();
        fs::write(root.path().join("crates/server/Cargo.toml"), "").unwrap();
        let folder = root.path().join("target/demo");
        assert!(matches!(
            open(&folder),
            Err(DemoError::BelowCheckout { .. })
        ));
        assert!(!folder.exists());
    }
}
