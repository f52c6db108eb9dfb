//! One UDP socket of a shard, with batched receiving and sending.
//!
//! The standard library sends one datagram a call; here many leave by one `sendmmsg`, and a run of equal ones as a single
//! message that the kernel segments (UDP_SEGMENT, Linux 4.18). Where the kernel has no such offload, the same run leaves as
//! plain datagrams of the same `sendmmsg`. This is the only module with `unsafe`.
//!
//! A run of datagrams that exceed the path MTU cannot be segmented: it is sent again as plain datagrams, which the kernel
//! fragments, and its destination gets no runs for a while (`paths`). Fragments are allowed on the way too: DF is not set.
//! Nothing here waits for a full socket buffer: the rest is kept in order and sent when there is room, up to
//! `BACKLOG` bytes, and dropped and counted beyond (`backlog`).

#![allow(unsafe_code)]

mod backlog;
mod paths;
mod raw;

use backlog::Backlog;
use paths::NarrowPaths;
use raw::{from_raw, set, to_raw};
use sfu::forward::slab::Transmit;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Datagrams taken by one `recvmmsg`.
pub const RECEIVE_BATCH: usize = 64;
/// Bytes of a buffer for an address.
const NAME_SIZE: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
/// Longer than any datagram that comes through an ordinary path; a longer one is cut, and then fails to authenticate.
const RECEIVE_SIZE: usize = 2048;
/// Messages of one `sendmmsg`.
const SEND_BATCH: usize = 256;
/// Socket buffers asked for; the kernel may grant less.
const BUFFER: libc::c_int = 4 << 20;
/// Bytes that wait for room in the socket buffer: twice its size.
const BACKLOG: usize = 8 << 20;

/// What one call to [`Socket::send`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Datagrams that left.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Datagrams that the kernel refused.
    pub errors: u64,
    /// Datagrams dropped since neither the socket buffer nor the backlog had room.
    pub dropped: u64,
    /// Datagrams of runs that exceeded the path MTU and left as plain datagrams.
    pub unsegmented: u64,
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
    backlog: Backlog,
    /// The last wait found room for the backlog.
    writable: bool,
    narrow: NarrowPaths,
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
    destinations: [SocketAddr; SEND_BATCH],
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
        // Routers may fragment long datagrams: a path that swallows "too big" messages would stay dark.
        set(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?;
        if address.is_ipv6() {
            set(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_WANT)?;
        }
        let segments = set(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        Ok(Self {
            socket,
            ipv6: address.is_ipv6(),
            segments,
            receive: Receive::new(),
            send: Send::new(),
            backlog: Backlog::new(BACKLOG),
            writable: false,
            narrow: NarrowPaths::default(),
        })
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

    /// Sets the size of the kernel's send buffer.
    pub fn set_send_buffer(&self, bytes: libc::c_int) -> io::Result<()> {
        set(&self.socket, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes)
    }

    /// Bytes that wait for room in the socket buffer.
    pub fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Destinations that get plain datagrams since their path is too narrow for runs.
    pub fn narrow_paths(&self) -> usize {
        self.narrow.len()
    }

    /// Waits until something can be received, `wake` can be read, the backlog can be sent, or the time is over. Returns
    /// whether there is something to receive, and whether `wake` is ready.
    pub fn wait(&mut self, wake: &impl AsRawFd, timeout: Option<Duration>) -> (bool, bool) {
        let events = if self.backlog.is_empty() { libc::POLLIN } else { libc::POLLIN | libc::POLLOUT };
        let mut fds = [
            libc::pollfd { fd: self.socket.as_raw_fd(), events, revents: 0 },
            libc::pollfd { fd: wake.as_raw_fd(), events: libc::POLLIN, revents: 0 },
        ];
        let limit = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: `fds` holds two entries; `limit` is null or leads to a timespec that outlives the call.
        let ready = unsafe { libc::ppoll(fds.as_mut_ptr(), 2, limit, std::ptr::null()) };
        if ready <= 0 {
            return (false, false);
        }
        self.writable = fds[0].revents & libc::POLLOUT != 0;
        (fds[0].revents & !libc::POLLOUT != 0, fds[1].revents != 0)
    }

    /// Passes up to [`RECEIVE_BATCH`] datagrams to `each`, with the canonical address of the sender. Returns their number.
    pub fn receive(&mut self, mut each: impl FnMut(SocketAddr, &mut [u8])) -> usize {
        let receive = &mut *self.receive;
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
            // The kernel has stored the length of this name here.
            receive.headers[n].msg_hdr.msg_namelen = NAME_SIZE;
        }
        got
    }

    /// Sends `transmits`, with their bytes one after the other in `slab`, after the backlog of earlier calls.
    pub fn send(&mut self, transmits: &[Transmit], slab: &[u8]) -> Outcome {
        let mut offset = 0;
        let all = transmits.iter().map(|transmit| {
            offset += transmit.len;
            (*transmit, &slab[offset - transmit.len..offset])
        });
        self.send_all(all)
    }

    /// Sends the backlog, if [`Socket::wait`] has found room for it.
    pub fn resume(&mut self) -> Outcome {
        if self.backlog.is_empty() || !std::mem::take(&mut self.writable) {
            return Outcome::default();
        }
        let waiting = std::mem::replace(&mut self.backlog, Backlog::new(BACKLOG));
        self.send_all(waiting.iter())
    }

    fn send_all<'a>(&mut self, all: impl Iterator<Item = (Transmit, &'a [u8])>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut queued = 0;
        let now = (!self.narrow.is_empty()).then(Instant::now);
        for (transmit, bytes) in all {
            let narrow = now.is_some_and(|now| self.narrow.contains(now, transmit.destination));
            let segment = transmit.segment_size.filter(|_| self.segments && !narrow);
            let step =
                if segment.is_some() { transmit.len } else { transmit.segment_size.map_or(transmit.len, usize::from) };
            for piece in bytes.chunks(step.max(1)) {
                if queued == SEND_BATCH {
                    self.flush(queued, &mut outcome);
                    queued = 0;
                }
                if self.backlog.is_empty() {
                    self.send.set(queued, transmit.destination, self.ipv6, piece, segment);
                    queued += 1;
                } else {
                    outcome.dropped += self.backlog.push(transmit.destination, segment, piece);
                }
            }
        }
        self.flush(queued, &mut outcome);
        outcome
    }

    /// Sends the first `queued` messages; once the socket buffer is full, the rest of them go to the backlog.
    fn flush(&mut self, queued: usize, outcome: &mut Outcome) {
        let fd = self.socket.as_raw_fd();
        let mut start = 0;
        while start < queued {
            let rest = (queued - start) as libc::c_uint;
            // SAFETY: entries start..queued were set by `Send::set` for this flush; the bytes they lead to are borrowed by
            // the caller, `send_all`, for as long as this runs.
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
            match io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::EAGAIN) => {
                    for n in start..queued {
                        let Message { destination, segment, bytes } = self.send.message(n);
                        outcome.dropped += self.backlog.push(destination, segment, bytes);
                    }
                    return;
                }
                // Longer than the path takes; before Linux 6.7 that is EINVAL.
                Some(libc::EMSGSIZE | libc::EINVAL) if self.send.is_run(start) => self.send_plain(start, outcome),
                // The device cannot segment: from the next burst on, plain datagrams.
                Some(libc::EIO) if self.send.is_run(start) => {
                    self.segments = false;
                    self.send_plain(start, outcome);
                }
                // Only this message failed: a peer that cannot be reached does not hold up the others.
                _ => outcome.errors += self.send.size(start).0,
            }
            start += 1;
        }
    }

    /// Sends run `n` as plain datagrams, and remembers its destination if they pass where the run did not.
    fn send_plain(&mut self, n: usize, outcome: &mut Outcome) {
        let Message { destination, segment, bytes } = self.send.message(n);
        let step = segment.map_or(bytes.len(), usize::from).max(1);
        let (name, name_len) = to_raw(destination, self.ipv6);
        let mut passed = 0;
        for piece in bytes.chunks(step) {
            if !self.backlog.is_empty() {
                outcome.dropped += self.backlog.push(destination, None, piece);
                continue;
            }
            let (fd, data) = (self.socket.as_raw_fd(), piece.as_ptr().cast());
            // SAFETY: `piece` and `name` outlive the call; `name_len` is at most the size of `name`.
            let sent = unsafe { libc::sendto(fd, data, piece.len(), 0, (&raw const name).cast(), name_len) };
            outcome.calls += 1;
            if sent >= 0 {
                passed += 1;
                outcome.datagrams += 1;
                outcome.bytes += piece.len() as u64;
            } else if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock {
                outcome.dropped += self.backlog.push(destination, None, piece);
            } else {
                outcome.errors += 1;
            }
        }
        if passed > 0 {
            outcome.unsegmented += passed;
            self.narrow.insert(Instant::now(), destination);
        }
    }
}

/// A message that was queued and has not left.
struct Message<'a> {
    destination: SocketAddr,
    segment: Option<u16>,
    bytes: &'a [u8],
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
            headers[n].msg_hdr.msg_namelen = NAME_SIZE;
            headers[n].msg_hdr.msg_iov = &raw mut vectors[n];
            headers[n].msg_hdr.msg_iovlen = 1;
        }
        receive
    }
}

impl Send {
    fn new() -> Box<Self> {
        // SAFETY: all-zero is a valid value of these plain C structures.
        let (names, vectors, controls, headers) = unsafe { (zeroed(), zeroed(), zeroed(), zeroed()) };
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Box::new(Self { destinations: [nowhere; SEND_BATCH], names, vectors, controls, headers })
    }

    fn set(&mut self, n: usize, to: SocketAddr, ipv6: bool, bytes: &[u8], segment: Option<u16>) {
        let (name, name_len) = to_raw(to, ipv6);
        self.destinations[n] = to;
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
        (self.segment(n).map_or(1, |segment| len.div_ceil(u64::from(segment.max(1)))), len)
    }

    fn segment(&self, n: usize) -> Option<u16> {
        // SAFETY: `is_run` says that `set` wrote a u16 there.
        self.is_run(n).then(|| unsafe {
            let control = libc::CMSG_FIRSTHDR(&raw const self.headers[n].msg_hdr);
            libc::CMSG_DATA(control).cast::<u16>().read_unaligned()
        })
    }

    /// Message `n`, which must have been set during the same [`Socket::send_all`].
    fn message<'a>(&self, n: usize) -> Message<'a> {
        let libc::iovec { iov_base, iov_len } = self.vectors[n];
        // SAFETY: `set` took both from a slice that `send_all` borrows for as long as its messages are queued; the result
        // is used only before it returns.
        let bytes = unsafe { std::slice::from_raw_parts(iov_base.cast::<u8>(), iov_len) };
        Message { destination: self.destinations[n], segment: self.segment(n), bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

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
