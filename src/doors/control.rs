//! The control socket: a Unix socket of mode 0660 where one line is asked and one answer is given, in parts as they
//! come. The last line, `= 0`, is the exit code. To a GET it speaks HTTP/1.0. Root, the daemon's user and the socket's
//! group may ask for anything, and nobody else for anything.

use crate::rules::control::{self, Asked, NO_SUCH_MD, Request, Say};
use crate::streams::duplex::{Duplex, within};
use crate::streams::inlet::Inlet;
use crate::words::fault::Trouble;
use crate::words::time::Span;
use async_io::{Async, Timer};
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use smol::channel::Receiver;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::lock::Semaphore;
use smol::{LocalExecutor, Task};
use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// Answers a request, a part at a time. A channel that closes without a [`Say::End`] counts as code 1.
pub type Answer = Rc<dyn Fn(Request) -> Receiver<Say>>;

/// The longest request line.
const LINE_MAX: usize = 1024;
/// How long the asking may take.
const PATIENCE: Span = Span::secs(5);
/// How long one who asked may leave a part of the answer unread.
const READING: Span = Span::mins(1);
/// Those who ask at a time; `renew` may stay for long.
const SEATS: usize = 32;

/// The socket; dropping it ends it and removes its file.
pub struct Control {
    path: PathBuf,
    /// Device and inode: another daemon's socket in this place is not ours to remove.
    file: Option<(u64, u64)>,
    _task: Task<()>,
}

impl Control {
    /// Takes the place of a dead daemon's socket, never of a live one's, nor of another kind of file.
    pub fn bind(executor: &Rc<LocalExecutor<'static>>, path: &Path, answer: Answer) -> Result<Self, Trouble> {
        let trouble =
            |why: &dyn core::fmt::Display| Trouble::new(format!("opening the control socket {}", path.display()), why);
        clear(path).map_err(|why| trouble(&why))?;
        let socket = open(path).and_then(Async::new_nonblocking).map_err(|error| trouble(&said(&error)))?;
        let task = executor.spawn(accept(executor.clone(), (socket, path.into()), answer));
        Ok(Self { path: path.into(), file: identity(path), _task: task })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if self.file.is_some() && identity(&self.path) == self.file {
            // It is gone already, or the folder is not ours any more: nothing is left to be done.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Makes room for the socket.
fn clear(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return path.parent().map_or(Ok(()), make_folder).map_err(|error| said(&error));
        }
        Err(error) => return Err(said(&error)),
        Ok(file) if !file.file_type().is_socket() => return Err("there is a file that is no socket".into()),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err("another daemon answers there".into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| said(&error))
        }
        Err(error) => Err(said(&error)),
    }
}

/// The reason, and what a person can do about it.
fn said(error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; the daemon's user needs the right to its folder, or MDControlSocket another"
        }
        _ => "",
    };
    format!("{error}{remedy}")
}

/// For whoever may use the socket, whatever the umask.
fn make_folder(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o755))
}

/// Bound, then given its mode, then listening: nobody gets in between.
fn open(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::fs::chmod(path, Mode::from_raw_mode(0o660))?;
    rustix::net::listen(&socket, 16)?;
    Ok(UnixListener::from(socket))
}

async fn accept(executor: Rc<LocalExecutor<'static>>, (socket, path): (Async<UnixListener>, PathBuf), answer: Answer) {
    const PAUSE: Span = Span::millis(250);
    let seats = Arc::new(Semaphore::new(SEATS));
    loop {
        let seat = seats.acquire_arc().await;
        match socket.accept().await {
            Ok((mut stream, _)) => {
                let answer = answer.clone();
                let may = may(&stream, &path);
                let serving = async move {
                    // Whoever asked has left; the daemon goes on with what it does.
                    let _ = serve(&mut stream, &answer, may).await;
                    drop(seat);
                };
                executor.spawn(serving).detach();
            }
            Err(error) => {
                log::warn!("a control connection could not be taken: {error}");
                Timer::after(PAUSE.duration()).await;
            }
        }
    }
}

/// While the mode is ours, the kernel lets in nobody else. Where it was widened, it is seen who asks; that is not known of
/// one from outside of our container.
fn may(stream: &Async<UnixStream>, path: &Path) -> bool {
    let file = fs::metadata(path).ok();
    if file.as_ref().is_some_and(|file| file.mode() & 0o007 == 0) {
        return true;
    }
    sockopt::socket_peercred(stream).is_ok_and(|peer| {
        let is_of_group = file.is_some_and(|file| file.gid() == peer.gid.as_raw());
        peer.uid.is_root() || peer.uid == rustix::process::geteuid() || is_of_group
    })
}

async fn serve(stream: &mut Async<UnixStream>, answer: &Answer, may: bool) -> io::Result<()> {
    let mut inlet = Inlet::default();
    let asked = match within(PATIENCE, ask_line(stream, &mut inlet)).await {
        Some(Ok(asked)) => asked,
        Some(Err(error)) => return Err(error),
        None => Err("no request line came".to_owned()),
    };
    match asked {
        Ok(_) if !may => put(stream, format!("{NOT_FOR_YOU}\n= 1\n")).await,
        Ok(Asked::Command(request)) => say(stream, &answer(request)).await,
        Ok(Asked::Page(Some(request))) => {
            let parts = answer(request);
            page(stream, &parts).await
        }
        Ok(Asked::Page(None)) => reply(stream, "404 Not Found", "there are /md-status and /md-status/<name>\n").await,
        Err(why) => put(stream, format!("{why}\n= 2\n")).await,
    }
}

const NOT_FOR_YOU: &str = "this socket is for root, the daemon's user and its group; its mode was 0660";

async fn put(stream: &mut Async<UnixStream>, text: String) -> io::Result<()> {
    put_within(READING, stream, text).await
}

async fn put_within(limit: Span, stream: &mut Async<UnixStream>, text: String) -> io::Result<()> {
    within(limit, stream.write_all(text.as_bytes())).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

/// The line, and for a GET the rest of its head, which nobody reads but everybody sends.
async fn ask_line(stream: &mut Async<UnixStream>, inlet: &mut Inlet) -> io::Result<Result<Asked, String>> {
    loop {
        let bytes = inlet.bytes();
        let end = bytes.iter().position(|byte| *byte == b'\n');
        if end.unwrap_or(bytes.len()) > LINE_MAX {
            return Ok(Err("the request line is over 1 KiB".into()));
        }
        let line = end.and_then(|end| bytes.get(..end));
        if let Some(line) = line {
            let asked = control::read(line);
            let head_ended =
                || bytes.windows(2).any(|two| two == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n");
            if !matches!(asked, Ok(Asked::Page(_))) || head_ended() {
                return Ok(asked);
            }
        }
        if !inlet.more(stream).await? {
            let bytes = inlet.bytes();
            return Ok(control::read(bytes.split(|byte| *byte == b'\n').next().unwrap_or(bytes)));
        }
    }
}

/// The parts as they come, while the one who asked is there.
async fn say(stream: &mut Async<UnixStream>, parts: &Receiver<Say>) -> io::Result<()> {
    loop {
        let left = async {
            let mut bin = [0; 64];
            // Half a connection is enough to listen, as `nc` and `socat` do; only an error means that nobody does.
            while stream.read(&mut bin).await? > 0 {}
            core::future::pending().await
        };
        let next = async { Ok(parts.recv().await) };
        let said: io::Result<_> = smol::future::or(next, left).await;
        let (line, last) = match said? {
            Ok(Say::Line(line)) => (line, false),
            Ok(Say::End(code)) => (format!("= {code}"), true),
            Err(_) => ("= 1".to_owned(), true),
        };
        put(stream, line + "\n").await?;
        if last {
            return Ok(());
        }
    }
}

/// All parts as one page.
async fn page(stream: &mut Async<UnixStream>, parts: &Receiver<Say>) -> io::Result<()> {
    let mut body = String::new();
    let mut code = 1;
    while let Ok(part) = parts.recv().await {
        match part {
            Say::Line(line) => {
                body.push_str(&line);
                body.push('\n');
            }
            Say::End(end) => {
                code = end;
                break;
            }
        }
    }
    let status = match code {
        // 1 says that a person should look, which is no failure of the asking.
        0 | 1 if !body.is_empty() => "200 OK",
        NO_SUCH_MD => "404 Not Found",
        _ => "500 Internal Server Error",
    };
    reply(stream, status, &body).await
}

async fn reply(stream: &mut Async<UnixStream>, status: &str, body: &str) -> io::Result<()> {
    let kind = if body.starts_with('{') { "application/json" } else { "text/plain; charset=utf-8" };
    let length = body.len();
    let text = format!("HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}");
    put(stream, text).await?;
    stream.end();
    Ok(())
}

/// Whether a daemon listens there.
pub fn is_there(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

/// Asks the daemon and hears each line of its answer as it comes; the result is the exit code. Blocking, for as long as
/// the answer takes.
pub fn ask(path: &Path, request: &Request, hear: &mut dyn FnMut(&str)) -> Result<u8, Trouble> {
    let trouble = |why: &dyn core::fmt::Display| Trouble::new("asking the daemon", why);
    let line = request.line().map_err(|why| trouble(&why))?;
    if line.len() > LINE_MAX {
        return Err(trouble(&"these are more names than one request can carry; name fewer, or none for all"));
    }
    let mut stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            trouble(&format_args!("no daemon at {}", path.display()))
        }
        io::ErrorKind::PermissionDenied => {
            trouble(&format_args!("{}: root, the daemon's user and its group may ask there", path.display()))
        }
        _ => trouble(&format_args!("{}: {error}", path.display())),
    })?;
    stream.write_all(format!("{line}\n").as_bytes()).map_err(|error| trouble(&error))?;
    // A line is held back until it is known not to be the last.
    let mut held: Option<String> = None;
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(|error| trouble(&error))?;
        if let Some(line) = held.replace(line) {
            hear(&line);
        }
        if let Some(line) = held.take_if(|line| code(line).is_none()) {
            hear(&line);
        }
    }
    held.as_deref().and_then(code).ok_or_else(|| trouble(&"it went away before it had answered"))
}

fn code(line: &str) -> Option<u8> {
    line.strip_prefix("= ")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::control::Form;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread::JoinHandle;

    /// A daemon's control socket in a fresh folder, served until it is dropped.
    struct Daemon {
        path: PathBuf,
        stop: smol::channel::Sender<()>,
        thread: Option<JoinHandle<()>>,
    }

    fn fresh() -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("edgemd-control-{}-{count}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        dir.join("run/control.sock")
    }

    impl Daemon {
        fn new() -> Self {
            let path = fresh();
            let (stop, stopped) = smol::channel::bounded(1);
            let (ready, is_ready) = std::sync::mpsc::channel();
            let at = path.clone();
            let thread = std::thread::spawn(move || {
                let executor = Rc::new(LocalExecutor::new());
                let control = Control::bind(&executor, &at, Rc::new(parrot)).unwrap();
                ready.send(()).unwrap();
                let _ = async_io::block_on(executor.run(stopped.recv()));
                drop(control);
            });
            is_ready.recv().unwrap();
            Self { path, stop, thread: Some(thread) }
        }

        fn raw(&self, text: &[u8]) -> String {
            let mut stream = UnixStream::connect(&self.path).unwrap();
            stream.write_all(text).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        }

        fn ask(&self, request: &Request) -> (Vec<String>, Result<u8, Trouble>) {
            let mut lines = Vec::new();
            let code = ask(&self.path, request, &mut |line| lines.push(line.to_owned()));
            (lines, code)
        }
    }

    impl Drop for Daemon {
        fn drop(&mut self) {
            self.stop.close();
            self.thread.take().unwrap().join().unwrap();
            assert!(!self.path.exists(), "the socket's file stays behind");
            fs::remove_dir_all(self.path.parent().unwrap().parent().unwrap()).unwrap();
        }
    }

    /// Says what it was asked; knows no MD called `nobody`, and falls silent on `reload`.
    fn parrot(request: Request) -> Receiver<Say> {
        let (say, heard) = smol::channel::unbounded();
        let code = match &request {
            Request::Status { name: Some(name), .. } if name == "nobody" => NO_SUCH_MD,
            Request::Status { name: Some(name), .. } if name == "ill" => 1,
            _ => 0,
        };
        say.try_send(Say::Line(format!("{request:?}"))).unwrap();
        say.try_send(Say::Line("= 7".into())).unwrap();
        if request != Request::Reload {
            say.try_send(Say::End(code)).unwrap();
        }
        heard
    }

    fn status(name: Option<&str>) -> Request {
        Request::Status { form: Form::Sentences, name: name.map(str::to_owned) }
    }

    #[test]
    fn verbs_are_answered_with_lines_and_a_code() {
        let daemon = Daemon::new();
        let mode = fs::metadata(&daemon.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let renew = Request::Renew { names: vec!["a.example".into(), "b.example".into()], force: true };
        for (request, code) in [(status(None), 0), (status(Some("nobody")), 2), (status(Some("ill")), 1), (renew, 0)] {
            let lines = vec![format!("{request:?}"), "= 7".to_owned()];
            assert_eq!(daemon.ask(&request), (lines, Ok(code)));
        }
        let lines = vec!["Reload".to_owned(), "= 7".to_owned()];
        assert_eq!(daemon.ask(&Request::Reload), (lines, Ok(1)), "an answer without an end");
    }

    #[test]
    fn what_is_no_request_gets_a_sentence() {
        let daemon = Daemon::new();
        assert_eq!(
            daemon.raw(b"halt\n"),
            "unknown request \"halt\"; there are status, renew, revoke, dns, account, reload, clock-set, link-up and prune\n= 2\n"
        );
        assert_eq!(
            daemon.raw(b""),
            "an empty request; there are status, renew, revoke, dns, account, reload, clock-set, link-up and prune\n= 2\n"
        );
        let long = [b"status ".as_slice(), &[b'x'; 1100]].concat();
        assert_eq!(daemon.raw(&long), "the request line is over 1 KiB\n= 2\n");
        assert!(daemon.raw(b"status").ends_with("= 0\n"), "a line without its end");
    }

    /// Who does not read keeps no seat for ever.
    #[test]
    fn an_answer_that_nobody_reads_is_given_up() {
        let (mut ours, theirs) = Async::<UnixStream>::pair().unwrap();
        let said = async_io::block_on(put_within(Span::millis(50), &mut ours, "x".repeat(10 << 20)));
        assert_eq!(said.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }

    #[test]
    fn a_get_is_answered_as_http() {
        let daemon = Daemon::new();
        let get = |target: &str| {
            let text = daemon.raw(format!("GET {target} HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n").as_bytes());
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let length = format!("Content-Length: {}", body.len());
            assert!(head.lines().any(|line| line == length), "{text}");
            (head.lines().next().unwrap().to_owned(), body.lines().next().unwrap().to_owned())
        };
        let json =
            |name: Option<&str>| format!("{:?}", Request::Status { form: Form::Json, name: name.map(str::to_owned) });
        assert_eq!(get("/md-status"), ("HTTP/1.0 200 OK".into(), json(None)));
        assert_eq!(get("/md-status/a.example?x"), ("HTTP/1.0 200 OK".into(), json(Some("a.example"))));
        assert_eq!(get("/md-status/ill"), ("HTTP/1.0 200 OK".into(), json(Some("ill"))));
        assert_eq!(get("/md-status/nobody"), ("HTTP/1.0 404 Not Found".into(), json(Some("nobody"))));
        assert_eq!(get("/etc").0, "HTTP/1.0 404 Not Found");
    }

    #[test]
    fn what_is_not_allowed_has_a_remedy() {
        let why = said(&rustix::io::Errno::ACCESS.into());
        assert!(why.starts_with("Permission denied") && why.ends_with("or MDControlSocket another"), "{why}");
        assert!(!said(&rustix::io::Errno::ROFS.into()).contains(';'));
    }

    #[test]
    fn a_dead_sockets_place_is_taken_and_a_live_ones_not() {
        let path = fresh();
        let executor = Rc::new(LocalExecutor::new());
        let bind = || Control::bind(&executor, &path, Rc::new(parrot));
        fs::create_dir(path.parent().unwrap()).unwrap();
        // What a killed daemon leaves behind.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists() && !is_there(&path));
        let first = bind().unwrap();
        assert!(is_there(&path));
        let why = bind().err().unwrap().to_string();
        assert!(why.ends_with("control.sock: another daemon answers there"), "{why}");
        assert!(is_there(&path), "the first one is still there");

        // Another file in its place is not removed with it, nor taken.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        let why = bind().err().unwrap().to_string();
        assert!(why.ends_with("there is a file that is no socket"), "{why}");
        drop(first);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        fs::remove_dir_all(path.parent().unwrap().parent().unwrap()).unwrap();
    }

    #[test]
    fn without_a_daemon_that_is_what_is_said() {
        let path = fresh();
        let why = ask(&path, &Request::Reload, &mut |_| {}).unwrap_err();
        assert_eq!(why.to_string(), format!("asking the daemon: no daemon at {}", path.display()));
        fs::remove_dir_all(path.parent().unwrap().parent().unwrap()).unwrap();
    }
}
