//! One UDP socket of a shard, with batched receiving and sending.
//!
//! The standard library sends one datagram a call; here many leave by one `sendmmsg`, and a run of equal ones as a single
//! message that the kernel segments (UDP_SEGMENT, Linux 4.18). Where the kernel has no such offload, the same run leaves as
//! plain datagrams of the same `sendmmsg`. This is the only module with `unsafe`.

#![allow(unsafe_code)]

use sfu::forward::slab::Transmit;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Datagrams taken by one `recvmmsg`.
const RECEIVE_BATCH: usize = 64;
/// Longer than any datagram that comes through an ordinary path; a longer one is cut, and then fails to authenticate.
const RECEIVE_SIZE: usize = 2048;
/// Messages of one `sendmmsg`.
const SEND_BATCH: usize = 256;
/// Socket buffers asked for; the kernel may grant less.
const BUFFER: libc::c_int = 4 << 20;
/// How long a full socket buffer is waited for before what does not fit is dropped, in milliseconds.
const SEND_PATIENCE_MS: libc::c_int = 5;

/// What one call to [`Socket::send`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Datagrams that left.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Datagrams that did not.
    pub errors: u64,
    /// System calls.
    pub calls: u64,
}

/// See the module.
pub struct Socket {
    socket: UdpSocket,
    ipv6: bool,
    /// The kernel segments; cleared when it refuses.
    segments: bool,
    receive: Box<Receive>,
    send: Box<Send>,
}

/// Buffers and headers for `recvmmsg`, which point into each other and are therefore boxed and never moved.
struct Receive {
    buffers: Box<[u8]>,
    names: [libc::sockaddr_storage; RECEIVE_BATCH],
    vectors: [libc::iovec; RECEIVE_BATCH],
    headers: [libc::mmsghdr; RECEIVE_BATCH],
}

/// Room for one `cmsghdr` with a `u16`, aligned as the kernel wants it.
type Control = [u64; 4];

struct Send {
    names: [libc::sockaddr_storage; SEND_BATCH],
    vectors: [libc::iovec; SEND_BATCH],
    controls: [Control; SEND_BATCH],
    headers: [libc::mmsghdr; SEND_BATCH],
}

// SAFETY: the raw pointers inside lead only into the same boxes or are rewritten before each call.
unsafe impl std::marker::Send for Socket {}

impl Socket {
    /// Binds `address`. With `shared`, other sockets of this process may bind the same port, and the kernel spreads
    /// datagrams over them by 5-tuple.
    pub fn bind(address: SocketAddr, shared: bool) -> io::Result<Self> {
        let family = if address.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just made and is owned by nobody else.
        let socket = UdpSocket::from(unsafe { OwnedFd::from_raw_fd(fd) });
        if shared {
            set(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
        if address.is_ipv6() {
            set(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
        }
        for (force, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
            if set(&socket, libc::SOL_SOCKET, force, BUFFER).is_err() {
                set(&socket, libc::SOL_SOCKET, plain, BUFFER)?;
            }
        }
        let (name, len) = to_raw(address, address.is_ipv6());
        // SAFETY: `name` is an initialised sockaddr_storage and `len` at most its size.
        if unsafe { libc::bind(fd, (&raw const name).cast(), len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let segments = set(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        Ok(Self { socket, ipv6: address.is_ipv6(), segments, receive: Receive::new(), send: Send::new() })
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Does without the kernel's segmentation from now on.
    pub fn without_segmentation(&mut self) {
        self.segments = false;
    }

    /// Whether runs leave as one message.
    pub fn segments(&self) -> bool {
        self.segments
    }

    /// Waits until something can be received, `wake` can be read, or the time is over. Gives whether each is ready.
    pub fn wait(&self, wake: &impl AsRawFd, timeout: Option<Duration>) -> (bool, bool) {
        let mut fds = [
            libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd: wake.as_raw_fd(), events: libc::POLLIN, revents: 0 },
        ];
        let limit = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: `fds` holds two entries; `limit` is null or leads to a timespec that outlives the call.
        let ready = unsafe { libc::ppoll(fds.as_mut_ptr(), 2, limit, std::ptr::null()) };
        if ready <= 0 { (false, false) } else { (fds[0].revents != 0, fds[1].revents != 0) }
    }

    /// Takes what has come, at most one batch, and hands it over with its canonical sender. Gives how many there were.
    pub fn receive(&mut self, mut each: impl FnMut(SocketAddr, &mut [u8])) -> usize {
        let receive = &mut *self.receive;
        for n in 0..RECEIVE_BATCH {
            receive.headers[n].msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        }
        let fd = self.socket.as_raw_fd();
        let count = RECEIVE_BATCH as libc::c_uint;
        // SAFETY: each header leads to a name, a vector and a buffer of the same box, all of RECEIVE_BATCH entries.
        let got = unsafe {
            libc::recvmmsg(fd, receive.headers.as_mut_ptr(), count, libc::MSG_DONTWAIT, std::ptr::null_mut())
        };
        let got = usize::try_from(got).unwrap_or(0);
        for n in 0..got {
            let len = (receive.headers[n].msg_len as usize).min(RECEIVE_SIZE);
            if let Some(from) = from_raw(&receive.names[n]) {
                each(from, &mut receive.buffers[n * RECEIVE_SIZE..][..len]);
            }
        }
        got
    }

    /// Sends `transmits`, whose bytes stand one behind the other in `slab`.
    pub fn send(&mut self, transmits: &[Transmit], slab: &[u8]) -> Outcome {
        let mut outcome = Outcome::default();
        let mut queued = 0;
        let mut offset = 0;
        for transmit in transmits {
            let bytes = &slab[offset..offset + transmit.len];
            offset += transmit.len;
            let whole = transmit.segment_size.is_none() || self.segments;
            let step = if whole { transmit.len } else { usize::from(transmit.segment_size.unwrap_or(1)) };
            for piece in bytes.chunks(step.max(1)) {
                if queued == SEND_BATCH {
                    self.flush(queued, &mut outcome);
                    queued = 0;
                }
                let segment = transmit.segment_size.filter(|_| whole);
                self.send.set(queued, transmit.destination, self.ipv6, piece, segment);
                queued += 1;
            }
        }
        self.flush(queued, &mut outcome);
        outcome
    }

    fn flush(&mut self, queued: usize, outcome: &mut Outcome) {
        let fd = self.socket.as_raw_fd();
        let mut start = 0;
        let mut patient = true;
        while start < queued {
            let rest = (queued - start) as libc::c_uint;
            // SAFETY: entries start..queued were set by `Send::set` for this flush; the bytes they lead to are borrowed by
            // the caller, `send`, for as long as this runs.
            let sent = unsafe { libc::sendmmsg(fd, self.send.headers.as_mut_ptr().add(start), rest, 0) };
            outcome.calls += 1;
            if let Ok(sent @ 1..) = usize::try_from(sent) {
                for n in start..start + sent {
                    let (datagrams, bytes) = self.send.size(n);
                    outcome.datagrams += datagrams;
                    outcome.bytes += bytes;
                }
                start += sent;
                continue;
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                // Once for a flush: what is stuck now costs this thread milliseconds, not each message its own.
                Some(libc::EAGAIN | libc::ENOBUFS) if patient => {
                    patient = self.wait_for_room();
                    if patient {
                        continue;
                    }
                }
                // The path or the device cannot segment: from the next burst on, plain datagrams.
                Some(libc::EIO) if self.send.is_run(start) => self.segments = false,
                _ => {}
            }
            // Only this message failed: a peer that cannot be reached does not hold up the others.
            outcome.errors += self.send.size(start).0;
            start += 1;
        }
    }

    fn wait_for_room(&self) -> bool {
        let mut fd = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: one entry is passed.
        unsafe { libc::poll(&raw mut fd, 1, SEND_PATIENCE_MS) > 0 }
    }
}

impl Receive {
    fn new() -> Box<Self> {
        // SAFETY: all-zero is a valid value of these plain C structures.
        let mut receive = Box::new(unsafe {
            Self {
                buffers: vec![0; RECEIVE_BATCH * RECEIVE_SIZE].into_boxed_slice(),
                names: zeroed(),
                vectors: zeroed(),
                headers: zeroed(),
            }
        });
        let Self { buffers, names, vectors, headers } = &mut *receive;
        for (n, buffer) in buffers.chunks_mut(RECEIVE_SIZE).enumerate() {
            vectors[n] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: RECEIVE_SIZE };
            headers[n].msg_hdr.msg_name = (&raw mut names[n]).cast();
            headers[n].msg_hdr.msg_iov = &raw mut vectors[n];
            headers[n].msg_hdr.msg_iovlen = 1;
        }
        receive
    }
}

impl Send {
    fn new() -> Box<Self> {
        // SAFETY: all-zero is a valid value of these plain C structures.
        Box::new(unsafe { Self { names: zeroed(), vectors: zeroed(), controls: zeroed(), headers: zeroed() } })
    }

    fn set(&mut self, n: usize, to: SocketAddr, ipv6: bool, bytes: &[u8], segment: Option<u16>) {
        let (name, name_len) = to_raw(to, ipv6);
        self.names[n] = name;
        self.vectors[n] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let header = &mut self.headers[n].msg_hdr;
        header.msg_name = (&raw mut self.names[n]).cast();
        header.msg_namelen = name_len;
        header.msg_iov = &raw mut self.vectors[n];
        header.msg_iovlen = 1;
        header.msg_flags = 0;
        header.msg_control = std::ptr::null_mut();
        header.msg_controllen = 0;
        if let Some(segment) = segment {
            header.msg_control = (&raw mut self.controls[n]).cast();
            // SAFETY: CMSG_SPACE of a u16 is 24 bytes, within the 32 of `Control`, which is aligned for a cmsghdr; so the
            // first header and its data lie inside `controls[n]`.
            unsafe {
                header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as _;
                let control = libc::CMSG_FIRSTHDR(header);
                (*control).cmsg_level = libc::SOL_UDP;
                (*control).cmsg_type = libc::UDP_SEGMENT;
                (*control).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
                libc::CMSG_DATA(control).cast::<u16>().write_unaligned(segment);
            }
        }
    }

    fn is_run(&self, n: usize) -> bool {
        self.headers[n].msg_hdr.msg_controllen > 0
    }

    /// Datagrams and bytes of message `n`.
    fn size(&self, n: usize) -> (u64, u64) {
        let len = self.vectors[n].iov_len as u64;
        if !self.is_run(n) {
            return (1, len);
        }
        // SAFETY: `is_run` says that `set` wrote a u16 there.
        let segment = unsafe {
            let control = libc::CMSG_FIRSTHDR(&raw const self.headers[n].msg_hdr);
            libc::CMSG_DATA(control).cast::<u16>().read_unaligned()
        };
        (len.div_ceil(u64::from(segment.max(1))), len)
    }
}

fn set(socket: &UdpSocket, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value outlives the call and `size` is its size.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The kernel's form of an address; for a socket of IPv6, an IPv4 address is mapped.
fn to_raw(address: SocketAddr, ipv6: bool) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    let address = match address {
        SocketAddr::V4(v4) if ipv6 => SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0)),
        other => other,
    };
    let len = match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is large enough and aligned for every socket address.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(raw) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(raw) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, len as libc::socklen_t)
}

/// Our form of an address, canonical: a mapped IPv4 address is an IPv4 address.
fn from_raw(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says what stands here, and sockaddr_storage is aligned for it.
            let raw = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let ip = std::net::Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(raw.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let raw = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let (ip, port) = (Ipv6Addr::from(raw.sin6_addr.s6_addr), u16::from_be(raw.sin6_port));
            Some(match IpAddr::V6(ip).to_canonical() {
                IpAddr::V4(ip) => SocketAddr::V4(SocketAddrV4::new(ip, port)),
                IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, raw.sin6_scope_id)),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive_all(socket: &mut Socket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut got = Vec::new();
        let never = UdpSocket::bind("127.0.0.1:0").unwrap();
        while got.len() < count {
            assert!(socket.wait(&never, Some(Duration::from_secs(5))).0, "only {} of {count} came", got.len());
            socket.receive(|from, bytes| got.push((from, bytes.to_vec())));
        }
        got
    }

    fn a_run_arrives_as_datagrams(segmentation: bool) {
        let mut sender = Socket::bind("[::]:0".parse().unwrap(), false).unwrap();
        if !segmentation {
            sender.without_segmentation();
        }
        let mut one = Socket::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let mut two = Socket::bind("[::1]:0".parse().unwrap(), false).unwrap();
        let slab: Vec<u8> = (0..250u8).collect();
        let transmits = [
            Transmit { destination: one.local_addr().unwrap(), len: 230, segment_size: Some(100) },
            Transmit { destination: two.local_addr().unwrap(), len: 20, segment_size: None },
        ];
        let outcome = sender.send(&transmits, &slab);
        assert_eq!((outcome.datagrams, outcome.bytes, outcome.errors, outcome.calls), (4, 250, 0, 1));
        let got = receive_all(&mut one, 3);
        assert!(got.iter().all(|(from, _)| from.ip() == IpAddr::from([127, 0, 0, 1])));
        let bytes: Vec<_> = got.into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(bytes, [&slab[..100], &slab[100..200], &slab[200..230]]);
        assert_eq!(receive_all(&mut two, 1)[0].1, &slab[230..]);
    }

    #[test]
    fn a_run_arrives_as_datagrams_with_segmentation() {
        a_run_arrives_as_datagrams(true);
    }

    #[test]
    fn a_run_arrives_as_datagrams_without_segmentation() {
        a_run_arrives_as_datagrams(false);
    }

    #[test]
    fn one_unreachable_peer_does_not_hold_up_the_others() {
        let mut sender = Socket::bind("0.0.0.0:0".parse().unwrap(), false).unwrap();
        let mut receiver = Socket::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let to = receiver.local_addr().unwrap();
        // Port 0 can be sent to by nobody.
        let nowhere = "127.0.0.1:0".parse().unwrap();
        let transmits = [to, nowhere, to].map(|destination| Transmit { destination, len: 1, segment_size: None });
        let outcome = sender.send(&transmits, b"abc");
        assert_eq!((outcome.datagrams, outcome.errors), (2, 1));
        assert_eq!(receive_all(&mut receiver, 2).into_iter().map(|(_, b)| b[0]).collect::<Vec<_>>(), b"ac");
    }

    #[test]
    fn a_port_in_use_is_refused() {
        let first = Socket::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let again = Socket::bind(first.local_addr().unwrap(), false);
        assert_eq!(again.err().map(|e| e.kind()), Some(io::ErrorKind::AddrInUse));
    }
}
