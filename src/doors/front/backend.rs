//! The way to a back end.

use super::conn::Sides;
use crate::rules::proxy_header;
use crate::streams::duplex::Duplex;
use crate::words::config::{Backend, Way};
use crate::words::sorted::Map;
use async_io::{Async, Timer};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::lock::Mutex;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Why there is no way.
pub struct Unreachable(pub String);

/// What host names were resolved to. The lock is held during a look-up: while DNS is silent, one thread waits for it,
/// not one for each request.
#[derive(Default)]
pub struct Names(Mutex<Map<String, (Timer, Vec<SocketAddr>)>>);

/// How long an address is believed.
const BELIEF: Duration = Duration::from_secs(60);

/// Connects, and tells the back end who is there, if it wants to know before everything else.
pub async fn connect(names: &Names, way: &Way, sides: Sides<'_>) -> Result<Box<dyn Duplex>, Unreachable> {
    let mut back = reach(names, &way.to).await?;
    let header = proxy_header::of(way.header, sides.peer, sides.local);
    back.write_all(&header).await.map_err(|error| Unreachable(error.to_string()))?;
    Ok(back)
}

async fn reach(names: &Names, backend: &Backend) -> Result<Box<dyn Duplex>, Unreachable> {
    let addrs = match backend {
        Backend::Unix(path) => {
            let stream = Async::<UnixStream>::connect(path).await;
            return stream.map(boxed).map_err(|error| Unreachable(error.to_string()));
        }
        Backend::Tcp(addr) => resolve(names, addr).await?,
    };
    let mut why = "its name has no address".to_owned();
    for addr in addrs {
        match Async::<TcpStream>::connect(addr).await {
            Ok(stream) => {
                let _ = stream.get_ref().set_nodelay(true);
                return Ok(boxed(stream));
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(Unreachable(why))
}

fn boxed(stream: impl Duplex + 'static) -> Box<dyn Duplex> {
    Box::new(stream)
}

/// Whether an idle connection is still that: its end, and bytes that nobody asked for, can be read.
pub async fn is_open(back: &mut dyn Duplex) -> bool {
    smol::future::poll_once(back.read(&mut [0])).await.is_none()
}

pub fn called(backend: &Backend) -> String {
    match backend {
        Backend::Tcp(addr) => addr.clone(),
        Backend::Unix(path) => path.display().to_string(),
    }
}

/// Addresses and `localhost` need nobody. A name is looked up by a thread of its own, because the system's resolver
/// blocks, and is believed for a minute.
async fn resolve(names: &Names, addr: &str) -> Result<Vec<SocketAddr>, Unreachable> {
    if let Ok(addr) = addr.parse() {
        return Ok(vec![addr]);
    }
    if let Some(port) = addr.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Ok(loopback.map(|ip| SocketAddr::new(ip, port)).into());
    }
    let mut names = names.0.lock().await;
    if let Some((mut until, addrs)) = names.remove(addr)
        && smol::future::poll_once(&mut until).await.is_none()
    {
        names.insert(addr.to_owned(), (until, addrs.clone()));
        return Ok(addrs);
    }
    let (say, heard) = smol::channel::bounded(1);
    let asked = addr.to_owned();
    let look_up = move || _ = say.try_send(asked.to_socket_addrs().map(Iterator::collect::<Vec<_>>));
    std::thread::Builder::new()
        .name("resolver".into())
        .stack_size(128 * 1024)
        .spawn(look_up)
        .map_err(|error| Unreachable(error.to_string()))?;
    let found = heard.recv().await.map_err(|_| Unreachable("its name could not be looked up".into()))?;
    let found = found.map_err(|error| Unreachable(error.to_string()))?;
    names.insert(addr.to_owned(), (Timer::after(BELIEF), found.clone()));
    Ok(found)
}
