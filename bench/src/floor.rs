//! The floor: a server that does nothing but hand each message to the kernel, once per socket.
//!
//! Speaks the protocol of the small peers. Messages that came together go out together, in one `send()` per socket: with one
//! message at a time it is the floor of what cannot be batched, with many that of what can.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read as _, Write as _},
    mem::MaybeUninit,
    net::{Ipv4Addr, TcpListener, TcpStream},
};

use anyhow::{Context as _, Result};
use memchr::{memchr, memmem};
use rustix::event::epoll;

use crate::frame;

/// Of the listening socket; clients are numbered from 0.
const LISTENER: u64 = u64::MAX;

struct Member {
    socket: TcpStream,
    upgraded: bool,
    /// The beginning of a request or frame.
    partial: Vec<u8>,
}

#[derive(Default)]
struct Floor {
    members: Vec<Option<Member>>,
    topics: HashMap<Vec<u8>, Vec<usize>>,
    /// Frames of this turn, by topic.
    pending: HashMap<Vec<u8>, Vec<u8>>,
}

/// Serves until it is killed.
pub(crate) fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        epoll::EventData::new_u64(LISTENER),
        epoll::EventFlags::IN,
    )?;
    let mut floor = Floor::default();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let mut space = [const { MaybeUninit::<epoll::Event>::uninit() }; 512];
        let (events, _) = epoll::wait(&epoll, &mut space[..], None)?;
        for event in events {
            if event.data.u64() == LISTENER {
                while let Ok((socket, _)) = listener.accept() {
                    socket.set_nodelay(true)?;
                    socket.set_nonblocking(true)?;
                    let data = epoll::EventData::new_u64(floor.members.len() as u64);
                    epoll::add(&epoll, &socket, data, epoll::EventFlags::IN)?;
                    floor.members.push(Some(Member {
                        socket,
                        upgraded: false,
                        partial: Vec::new(),
                    }));
                }
            } else {
                floor.read(usize::try_from(event.data.u64())?, &mut buffer)?;
            }
        }
        floor.publish();
    }
}

impl Floor {
    fn read(&mut self, index: usize, buffer: &mut [u8]) -> Result<()> {
        let Some(member) = self.members[index].as_mut() else {
            return Ok(());
        };
        match member.socket.read(buffer) {
            Ok(read) if read > 0 => member.partial.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Ok(_) | Err(_) => {
                self.members[index] = None;
                return Ok(());
            }
        }
        if !member.upgraded {
            let Some(end) = memmem::find(&member.partial, b"\r\n\r\n") else {
                return Ok(());
            };
            let path = member
                .partial
                .split(|byte| *byte == b' ')
                .nth(1)
                .context("a request line")?;
            let topic = path.get(1..).unwrap_or_default().to_vec();
            member.partial.drain(..end + 4);
            member.upgraded = true;
            let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
            member
                .socket
                .write_all(&[&answer[..], &frame::unmasked(frame::TEXT, b"joined")].concat())?;
            self.topics.entry(topic).or_default().push(index);
        }
        let mut used = 0;
        while let Some(head) = masked_first(&member.partial[used..]) {
            let message = &member.partial[used..][head.payload.clone()];
            let end = memchr(b'\n', message).context("a topic before the content")?;
            let frames = self.pending.entry(message[..end].to_vec()).or_default();
            frames.extend(frame::unmasked(frame::TEXT, &message[end + 1..]));
            used += head.payload.end;
        }
        member.partial.drain(..used);
        Ok(())
    }

    fn publish(&mut self) {
        for (topic, frames) in self.pending.drain() {
            for index in self.topics.get(&topic).into_iter().flatten() {
                let Some(member) = self.members[*index].as_mut() else {
                    continue;
                };
                // A socket that is full takes the rest when it can; the floor waits for it.
                let mut rest = &frames[..];
                while !rest.is_empty() {
                    match member.socket.write(rest) {
                        Ok(written) => rest = &rest[written..],
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            std::thread::yield_now();
                        }
                        Err(_) => break,
                    }
                }
            }
        }
    }
}

/// A frame of the generator, whose mask is zero.
fn masked_first(bytes: &[u8]) -> Option<frame::Head> {
    let mut head = frame::first(bytes)?;
    head.payload.start += 4;
    head.payload.end += 4;
    (bytes.len() >= head.payload.end).then_some(head)
}
