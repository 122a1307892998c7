//! A disk with a cache of its own that dies with the power: what was not flushed reaches the medium in part, in any order,
//! and in pieces of a sector. It speaks NBD, and the file is the medium.
//!
//! An emulator that is killed loses nothing of what its machine has written, because the writes are the build machine's by
//! then; real cards and disks do.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

const SECTOR: usize = 512;

pub struct Volatile {
    socket: PathBuf,
    medium: PathBuf,
    /// What was in the cache at the end of each connection.
    left: Receiver<Vec<(u64, Vec<u8>)>>,
}

impl Volatile {
    /// The medium need not be there before a machine connects.
    pub fn over(medium: PathBuf, socket: PathBuf) -> Self {
        let listener = UnixListener::bind(&socket).expect("a socket in our folder");
        let (sender, left) = mpsc::channel();
        let file = medium.clone();
        thread::spawn(move || serve(&listener, &file, &sender));
        Self { socket, medium, left }
    }

    /// What QEMU calls it.
    pub fn url(&self) -> String {
        format!("nbd:unix:{}", self.socket.display())
    }

    /// The machine is gone: of what was in the cache, these sectors reach the medium. How many did, of how many.
    pub fn cut(&self, mut keep: impl FnMut() -> bool) -> (usize, usize) {
        // A machine that did not get as far as its disk never connected.
        let Ok(cache) = self.left.recv_timeout(Duration::from_secs(2)) else { return (0, 0) };
        let file = File::options().write(true).open(&self.medium).expect("the medium");
        let (mut kept, mut all) = (0, 0);
        for (offset, bytes) in cache {
            for (sector, at) in bytes.chunks(SECTOR).zip((offset..).step_by(SECTOR)) {
                all += 1;
                if keep() {
                    kept += 1;
                    file.write_all_at(sector, at).expect("the medium");
                }
            }
        }
        (kept, all)
    }
}

fn serve(listener: &UnixListener, medium: &PathBuf, left: &Sender<Vec<(u64, Vec<u8>)>>) {
    for stream in listener.incoming().flatten() {
        let mut session = Session {
            stream,
            seen: fs::read(medium).expect("the medium"),
            medium: File::options().write(true).open(medium).expect("the medium"),
            cache: Vec::new(),
        };
        // It ends when the emulator does, in whatever way.
        let _ = session.greet().and_then(|()| while_ok(|| session.answer()));
        if left.send(session.cache).is_err() {
            return;
        }
    }
}

fn while_ok(mut step: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        step()?;
    }
}

struct Session {
    stream: UnixStream,
    /// What the machine reads.
    seen: Vec<u8>,
    medium: File,
    cache: Vec<(u64, Vec<u8>)>,
}

const OPTION: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
/// It has flags, it can flush, it can write through.
const CAN: u16 = 1 | 4 | 8;

impl Session {
    /// The fixed newstyle handshake, of which only `NBD_OPT_GO` is known here.
    fn greet(&mut self) -> io::Result<()> {
        self.stream.write_all(b"NBDMAGICIHAVEOPT\0\x03")?;
        self.take::<4>()?;
        loop {
            if u64::from_be_bytes(self.take()?) != OPTION {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let option = u32::from_be_bytes(self.take()?);
            let length = u32::from_be_bytes(self.take()?);
            self.read(length as usize)?;
            if option != 7 {
                self.option_reply(option, 0x8000_0001, &[])?;
                continue;
            }
            let mut export = vec![0, 0];
            export.extend((self.seen.len() as u64).to_be_bytes());
            export.extend(CAN.to_be_bytes());
            self.option_reply(option, 3, &export)?;
            return self.option_reply(option, 1, &[]);
        }
    }

    fn option_reply(&mut self, option: u32, kind: u32, bytes: &[u8]) -> io::Result<()> {
        let mut reply = OPTION_REPLY.to_be_bytes().to_vec();
        for word in [option, kind, bytes.len() as u32] {
            reply.extend(word.to_be_bytes());
        }
        reply.extend(bytes);
        self.stream.write_all(&reply)
    }

    fn answer(&mut self) -> io::Result<()> {
        if u32::from_be_bytes(self.take()?) != REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let through = u16::from_be_bytes(self.take()?) & 1 != 0;
        let kind = u16::from_be_bytes(self.take()?);
        let handle: [u8; 8] = self.take()?;
        let offset = u64::from_be_bytes(self.take()?);
        let length = u32::from_be_bytes(self.take()?) as usize;
        let range = offset as usize..offset as usize + length;
        let mut reply = REPLY.to_be_bytes().to_vec();
        reply.extend([0; 4]);
        reply.extend(handle);
        match kind {
            0 => reply.extend(&self.seen[range]),
            1 => {
                let bytes = self.read(length)?;
                self.seen[range].copy_from_slice(&bytes);
                self.cache.push((offset, bytes));
                if through {
                    self.flush()?;
                }
            }
            2 => return Err(io::ErrorKind::UnexpectedEof.into()),
            3 => self.flush()?,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        self.stream.write_all(&reply)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.cache.drain(..).try_for_each(|(offset, bytes)| self.medium.write_all_at(&bytes, offset))
    }

    fn read(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
