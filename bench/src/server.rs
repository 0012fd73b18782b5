//! The servers that are measured, each started with the settings its documentation recommends.

use std::{fs, net::SocketAddr, process::Command};

use anyhow::{Context as _, Result};
use uuid::Uuid;

use crate::{
    database::Postgres,
    dialect::{CHANNELS_MAX, Dialect},
    lab::{self, Lab, Place, Process},
    usage,
};

/// Of every token here.
pub(crate) const SECRET: &str = "a secret for measurements, long enough for HS256";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Ourselves.
    Pgrelay,
    /// Plain `send()` of one frame to each socket, which no server on this kernel can undercut without batching.
    Floor,
    /// Bun's built-in publish and subscribe, which is uWebSockets.
    Bun,
    /// A hub on the package `ws`.
    Ws,
    /// Socket.IO with its PostgreSQL adapter.
    SocketIo,
    /// NATS with its WebSocket listener.
    Nats,
    /// nginx with nchan.
    Nchan,
    /// LISTEN, and the payload of NOTIFY to the sockets of a topic.
    Notify,
}

impl Subject {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pgrelay => "pgrelay",
            Self::Floor => "floor",
            Self::Bun => "Bun",
            Self::Ws => "ws",
            Self::SocketIo => "Socket.IO",
            Self::Nats => "NATS",
            Self::Nchan => "nchan",
            Self::Notify => "NOTIFY relay",
        }
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) dialect: Dialect,
    process: Process,
    /// Of nginx, whose workers do the work.
    has_workers: bool,
}

impl Server {
    /// Starts a server and waits until it is ready.
    pub(crate) fn start(
        lab: &Lab,
        postgres: &Postgres,
        subject: Subject,
        place: Place,
    ) -> Result<Self> {
        match subject {
            Subject::Pgrelay => Self::start_pgrelay(lab, postgres.url(), place, &[]),
            Subject::Floor => {
                let mut floor = Command::new(std::env::current_exe()?);
                floor.arg("floor");
                Self::start_topic(lab, subject, place, floor)
            }
            Subject::Bun => {
                let bun = lab
                    .root
                    .join("bench/peers/node_modules/@oven/bun-linux-x64/bin/bun");
                let mut command = Command::new(bun);
                command.arg(lab.root.join("bench/peers/bun.js"));
                Self::start_topic(lab, subject, place, command)
            }
            Subject::Ws => Self::start_topic(lab, subject, place, node(lab, "ws.js")),
            Subject::Notify => Self::start_listening(lab, postgres, subject, place, "notify.js"),
            Subject::SocketIo => {
                Self::start_listening(lab, postgres, subject, place, "socket-io.js")
            }
            Subject::Nats => Self::start_nats(lab, place),
            Subject::Nchan => Self::start_nchan(lab, place),
        }
    }

    /// The relay on a database, with further settings.
    pub(crate) fn start_pgrelay(
        lab: &Lab,
        url: &str,
        place: Place,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let address = lab::free_address()?;
        let mut command = Command::new(Lab::pgrelay()?);
        command.envs([
            ("PGRELAY_JWT_SECRET", SECRET),
            ("DATABASE_URL", url),
            ("PGRELAY_LOG", "warn"),
        ]);
        let mut token = Command::new(command.get_program());
        token.env("PGRELAY_JWT_SECRET", SECRET).args([
            "token",
            "--role",
            "service_role",
            "--exp",
            "24h",
        ]);
        let key = lab::output(&mut token)?;
        command
            .env("PGRELAY_LISTEN", address.to_string())
            .env("PGRELAY_AUTO_MIGRATE", "true")
            .env("PGRELAY_CHANNELS_MAX", CHANNELS_MAX.to_string());
        if place == Place::Server {
            command.env("PGRELAY_SHARDS", "1");
        }
        command.envs(settings.iter().copied()).arg("serve");
        let mut process = Process::start(lab, place, Subject::Pgrelay.name(), &command)?;
        process.wait_until("pgrelay", || lab::get(address, "/readyz").is_some())?;
        Ok(Self {
            address,
            dialect: Dialect::Phoenix { key },
            process,
            has_workers: false,
        })
    }

    fn start_topic(
        lab: &Lab,
        subject: Subject,
        place: Place,
        mut command: Command,
    ) -> Result<Self> {
        let address = lab::free_address()?;
        command.arg(address.port().to_string());
        Self::ready(lab, (subject, place), address, &command, Dialect::Topic)
    }

    fn start_listening(
        lab: &Lab,
        postgres: &Postgres,
        subject: Subject,
        place: Place,
        file: &str,
    ) -> Result<Self> {
        let address = lab::free_address()?;
        let mut command = node(lab, file);
        command.args([&address.port().to_string(), postgres.url()]);
        let dialect = match subject {
            Subject::SocketIo => Dialect::SocketIo,
            _ => Dialect::Topic,
        };
        Self::ready(lab, (subject, place), address, &command, dialect)
    }

    fn start_nats(lab: &Lab, place: Place) -> Result<Self> {
        let (address, clients) = (lab::free_address()?, lab::free_address()?);
        let file = lab.work.join("nats.conf");
        fs::write(
            &file,
            format!(
                "listen: \"{clients}\"\nmax_connections: 70000\n\
                 websocket {{ listen: \"{address}\", no_tls: true, compression: false }}\n"
            ),
        )?;
        let mut command = Command::new("nats-server");
        command.arg("-c").arg(file);
        Self::ready(
            lab,
            (Subject::Nats, place),
            address,
            &command,
            Dialect::Nats,
        )
    }

    fn start_nchan(lab: &Lab, place: Place) -> Result<Self> {
        let address = lab::free_address()?;
        let work = lab.work.join("nginx");
        fs::create_dir_all(&work)?;
        let file = work.join("nginx.conf");
        let modules = "/usr/lib/nginx/modules/ngx_nchan_module.so";
        fs::write(
            &file,
            format!(
                "load_module {modules};\ndaemon off;\nuser root;\nworker_processes 1;\nworker_rlimit_nofile 20000;\n\
                 pid {dir}/pid;\nerror_log {dir}/error.log warn;\n\
                 events {{ worker_connections 19900; }}\n\
                 http {{\n access_log off;\n tcp_nodelay on;\n keepalive_requests 100000000;\n nchan_shared_memory_size 512M;\n\
                 server {{\n listen {address} backlog=4096;\n\
                 location ~ /sub/(.+)$ {{ nchan_subscriber websocket; nchan_channel_id $1; nchan_store_messages off; }}\n\
                 location ~ /pub/(.+)$ {{ nchan_publisher; nchan_channel_id $1; nchan_store_messages off; }}\n }}\n}}\n",
                dir = work.display()
            ),
        )?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&work).arg("-c").arg(file);
        let mut server = Self::ready(
            lab,
            (Subject::Nchan, place),
            address,
            &command,
            Dialect::Nchan,
        )?;
        server.has_workers = true;
        Ok(server)
    }

    fn ready(
        lab: &Lab,
        (subject, place): (Subject, Place),
        address: SocketAddr,
        command: &Command,
        dialect: Dialect,
    ) -> Result<Self> {
        let mut process = Process::start(lab, place, subject.name(), command)
            .with_context(|| format!("start {}", subject.name()))?;
        process.wait_until(subject.name(), || lab::accepts(address))?;
        Ok(Self {
            address,
            dialect,
            process,
            has_workers: false,
        })
    }

    /// The processes that do its work.
    pub(crate) fn pids(&self) -> Result<Vec<u32>> {
        let own = self.process.id();
        let mut pids = vec![own];
        if self.has_workers {
            pids.extend(usage::children(own)?);
        }
        Ok(pids)
    }

    /// The one process of a server without workers.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// The key that clients of a relay bring; empty for other servers.
    pub(crate) fn key(&self) -> &str {
        match &self.dialect {
            Dialect::Phoenix { key } => key,
            Dialect::Topic | Dialect::SocketIo | Dialect::Nats | Dialect::Nchan => "",
        }
    }
}

fn node(lab: &Lab, file: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(lab.root.join("bench/peers").join(file));
    command
}

/// Names of `count` topics, as bookings have them.
pub(crate) fn booking_ids(count: usize) -> Vec<String> {
    (0..count).map(|_| Uuid::new_v4().to_string()).collect()
}
