//! Who has a port, as far as the kernel tells us.

use std::fs;
use std::net::SocketAddr;

/// `uhttpd (pid 812)`.
pub fn of(addr: SocketAddr) -> Option<String> {
    let tables = [fs::read_to_string("/proc/net/tcp"), fs::read_to_string("/proc/net/tcp6")];
    let inodes: Vec<String> = tables.iter().flatten().flat_map(|table| listening(table, addr.port())).collect();
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid = process.file_name().into_string().ok().filter(|name| name.bytes().all(|b| b.is_ascii_digit()))?;
        let mut files = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        files.find(|file| {
            fs::read_link(file.path()).is_ok_and(|to| inodes.iter().any(|inode| to.as_os_str() == inode.as_str()))
        })?;
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        Some(format!("{} (pid {pid})", name.trim_end()))
    })
}

/// The listening sockets with this port in one of the kernel's tables, as the links in a process's `fd` name them.
fn listening(table: &str, port: u16) -> impl Iterator<Item = String> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    table.lines().filter_map(move |line| {
        let mut words = line.split_ascii_whitespace();
        let local = words.nth(1)?;
        let state = words.nth(1)?;
        let inode = words.nth(5)?;
        (state == LISTEN && local.ends_with(&suffix)).then(|| format!("socket:[{inode}]"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_named() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let who = of(socket.local_addr().unwrap()).unwrap();
        assert!(who.ends_with(&format!("(pid {})", std::process::id())), "{who}");
    }

    #[test]
    fn only_listeners_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 17 1 0\n\
             1: 0100007F:0050 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 18 1 0\n\
             2: 00000000:0051 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19 1 0\n";
        assert_eq!(listening(table, 80).collect::<Vec<_>>(), ["socket:[17]"]);
    }
}
