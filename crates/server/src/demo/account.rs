//! Which user PostgreSQL runs as. It refuses to be root, and so do we on its behalf.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
    process::Stdio,
};

use tokio::process::Command;

use super::DemoError;

/// The user PostgreSQL runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Account {
    /// Whoever runs us.
    Own,
    /// We are root: an unprivileged user.
    Other { name: String, uid: u32, gid: u32 },
}

impl Account {
    /// The user to run as: ourselves, or `postgres`, or `nobody`.
    pub(super) fn choose() -> Result<Self, DemoError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        let users = fs::read_to_string("/etc/passwd").map_err(DemoError::io("read /etc/passwd"))?;
        Self::unprivileged(&users).ok_or(DemoError::NoAccount)
    }

    fn unprivileged(passwd: &str) -> Option<Self> {
        ["postgres", "nobody"].into_iter().find_map(|wanted| {
            passwd.lines().find_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next().filter(|name| *name == wanted)?;
                let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
                Some(Self::Other {
                    name: name.to_owned(),
                    uid,
                    gid,
                })
            })
        })
    }

    /// For messages.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Own => "you",
            Self::Other { name, .. } => name,
        }
    }

    /// The first folder on the way to `path` that this user cannot enter.
    pub(super) fn barrier<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let Self::Other { uid, gid, .. } = self else {
            return None;
        };
        let closed = |folder: &&Path| {
            let Ok(data) = fs::metadata(folder) else {
                return false;
            };
            let bit = match (data.uid() == *uid, data.gid() == *gid) {
                (true, _) => 0o100,
                (false, true) => 0o010,
                (false, false) => 0o001,
            };
            data.mode() & bit == 0
        };
        path.ancestors().filter(closed).last()
    }

    /// Makes this user the owner of `path`.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid, .. } => chown(path, Some(*uid), Some(*gid)),
        }
    }

    /// A command that runs `program` as this user, in a process group of its own so that Ctrl-C
    /// reaches only us, and that ends with us where the system can see to that.
    pub(super) async fn command(&self, program: &Path, path: &str) -> Command {
        let mut command = if can_die_with_us().await {
            let mut setpriv = Command::new("setpriv");
            setpriv.args(["--pdeathsig", "INT"]);
            if let Self::Other { uid, gid, .. } = self {
                setpriv.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string()]);
                setpriv.arg("--clear-groups");
            }
            setpriv.arg("--").arg(program);
            setpriv
        } else {
            let mut plain = Command::new(program);
            if let Self::Other { uid, gid, .. } = self {
                plain.uid(*uid).gid(*gid);
            }
            plain
        };
        command
            .env_clear()
            .env("PATH", path)
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// Whether `setpriv` is here and knows `--pdeathsig`; the one of busybox does not.
async fn can_die_with_us() -> bool {
    let mut probe = Command::new("setpriv");
    probe.args(["--pdeathsig", "INT", "--", "true"]);
    probe
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    probe.status().await.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_becomes_postgres_or_else_nobody() {
        let passwd = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\n\
                      postgres:x:105:110::/var/lib/postgresql:/bin/sh\n";
        let other = |name: &str, uid, gid| Account::Other {
            name: name.to_owned(),
            uid,
            gid,
        };
        assert_eq!(
            Account::unprivileged(passwd),
            Some(other("postgres", 105, 110))
        );
        let (without, _) = passwd.split_once("postgres").unwrap();
        assert_eq!(
            Account::unprivileged(without),
            Some(other("nobody", 65534, 65533))
        );
        assert_eq!(Account::unprivileged("root:x:0:0::/root:/bin/sh"), None);
    }

    #[test]
    fn a_folder_nobody_else_may_enter_is_a_barrier() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let stranger = Account::Other {
            name: "stranger".to_owned(),
            uid: 4_000_000,
            gid: 4_000_000,
        };
        assert_eq!(stranger.barrier(&below), None);
        fs::set_permissions(root.path().join("a"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(
            stranger.barrier(&below),
            Some(root.path().join("a").as_path())
        );
        assert_eq!(Account::Own.barrier(&below), None);
    }
}
