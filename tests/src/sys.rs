//! What the load test asks of the kernel: UDP sockets that take coalesced datagrams (UDP_GRO), many of them behind one
//! epoll, runs of datagrams sent by one call (UDP_SEGMENT, sendmmsg), and another process's CPU time. Linux only.
//!
//! The only module of this crate with `unsafe`.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Asked for; more than two seconds of a 2.5 Mbit/s stream even when the kernel counts its own overhead.
const BUFFER: libc::c_int = 4 << 20;
/// What one coalesced message may hold.
const MESSAGE: usize = 65_536;
/// Messages taken by one call.
const BATCH: usize = 8;

/// Aligned room for one `cmsghdr` with an integer.
type Control = [u64; 4];

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn set(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option value is one c_int, and its size is passed.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len) }).map(drop)
}

/// Moves the calling thread into a network namespace that `ip netns` created.
pub fn enter_namespace(name: &str) -> io::Result<()> {
    let namespace = std::fs::File::open(format!("/var/run/netns/{name}"))?;
    // SAFETY: a descriptor and a flag are passed, no pointers; only this thread's namespace changes.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

/// A UDP socket with large buffers.
#[derive(Debug)]
pub struct Udp(UdpSocket);

impl Udp {
    /// Binds any port of `ip`. With `coalesce`, the kernel may hand over a run of datagrams as one message.
    pub fn bind(ip: IpAddr, coalesce: bool) -> io::Result<Self> {
        let socket = UdpSocket::bind((ip, 0))?;
        socket.set_nonblocking(true)?;
        for (force, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
            set(&socket, libc::SOL_SOCKET, force, BUFFER).or_else(|_| set(&socket, libc::SOL_SOCKET, plain, BUFFER))?;
        }
        if coalesce {
            set(&socket, libc::SOL_UDP, libc::UDP_GRO, 1)?;
        }
        Ok(Self(socket))
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Sends one datagram; what does not fit is lost, as on a network.
    pub fn send(&self, to: SocketAddr, datagram: &[u8]) {
        let _ = self.0.send_to(datagram, to);
    }

    /// Waits until something can be received or the time is over.
    pub fn wait(&self, timeout: Duration) {
        let mut fd = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let limit = timespec(timeout);
        // SAFETY: one pollfd and one timespec, both alive during the call; no signal mask.
        unsafe { libc::ppoll(&raw mut fd, 1, &raw const limit, std::ptr::null()) };
    }
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec { tv_sec: duration.as_secs() as libc::time_t, tv_nsec: duration.subsec_nanos().into() }
}

/// Buffers to receive with, for any number of sockets in turn.
pub struct Receiver {
    buffers: Box<[u8]>,
    names: Box<[libc::sockaddr_storage; BATCH]>,
    vectors: Box<[libc::iovec; BATCH]>,
    controls: Box<[Control; BATCH]>,
    headers: Box<[libc::mmsghdr; BATCH]>,
}

// SAFETY: the raw pointers lead only into the boxes beside them, which move with it.
unsafe impl Send for Receiver {}

impl Default for Receiver {
    fn default() -> Self {
        // SAFETY: all are plain C structures, for which zeros are valid.
        let mut receiver = unsafe {
            Self {
                buffers: vec![0; BATCH * MESSAGE].into_boxed_slice(),
                names: Box::new(zeroed()),
                vectors: Box::new(zeroed()),
                controls: Box::new(zeroed()),
                headers: Box::new(zeroed()),
            }
        };
        for (n, buffer) in receiver.buffers.chunks_exact_mut(MESSAGE).enumerate() {
            receiver.vectors[n] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: MESSAGE };
            let header = &mut receiver.headers[n].msg_hdr;
            header.msg_name = (&raw mut receiver.names[n]).cast();
            header.msg_iov = &raw mut receiver.vectors[n];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut receiver.controls[n]).cast();
        }
        receiver
    }
}

impl Receiver {
    /// Takes everything that `socket` has, datagram by datagram.
    pub fn receive(&mut self, socket: &Udp, mut each: impl FnMut(SocketAddr, &[u8])) {
        loop {
            for header in self.headers.iter_mut() {
                header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
                header.msg_hdr.msg_controllen = size_of::<Control>();
            }
            let (fd, flags) = (socket.0.as_raw_fd(), libc::MSG_DONTWAIT);
            // SAFETY: BATCH headers, each leading to a name, a vector, a buffer and a control block of the same index.
            let got = unsafe {
                libc::recvmmsg(fd, self.headers.as_mut_ptr(), BATCH as libc::c_uint, flags, std::ptr::null_mut())
            };
            let got = usize::try_from(got).unwrap_or(0);
            for n in 0..got {
                let len = (self.headers[n].msg_len as usize).min(MESSAGE);
                let Some(from) = from_raw(&self.names[n]) else { continue };
                let segment = segment_size(&self.headers[n].msg_hdr).unwrap_or(len).max(1);
                for datagram in self.buffers[n * MESSAGE..][..len].chunks(segment) {
                    each(from, datagram);
                }
            }
            if got < BATCH {
                return;
            }
        }
    }
}

fn segment_size(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel filled `msg_controllen` bytes of the control block that the header leads to.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !control.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give complete headers or null; UDP_GRO carries a c_int.
        unsafe {
            if (*control).cmsg_level == libc::SOL_UDP && (*control).cmsg_type == libc::UDP_GRO {
                return usize::try_from(libc::CMSG_DATA(control).cast::<libc::c_int>().read_unaligned()).ok();
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    None
}

fn from_raw(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that this is a sockaddr_in, which a sockaddr_storage can hold.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            Some(SocketAddrV4::new(u32::from_be(name.sin_addr.s_addr).into(), u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that this is a sockaddr_in6, which a sockaddr_storage can hold.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Waits for many sockets at once.
pub struct Epoll(OwnedFd);

impl Epoll {
    /// An empty set.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the descriptor is new and owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) }))
    }

    /// Adds a socket under a token.
    pub fn add(&self, socket: &Udp, token: usize) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token as u64 };
        let (set, fd) = (self.0.as_raw_fd(), socket.0.as_raw_fd());
        // SAFETY: one event, alive during the call.
        check(unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, fd, &raw mut event) }).map(drop)
    }

    /// Puts the tokens of sockets that can be read into `ready`.
    pub fn wait(&self, timeout: Duration, ready: &mut Vec<usize>) {
        const MOST: usize = 256;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MOST];
        let limit = timeout.as_millis().min(1000) as libc::c_int;
        // SAFETY: room for MOST events.
        let got = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), MOST as libc::c_int, limit) };
        ready.clear();
        ready.extend(events.iter().take(usize::try_from(got).unwrap_or(0)).map(|event| event.u64 as usize));
    }
}

/// Sends runs of equal datagrams to IPv4 destinations, many runs a call: the least that a server can do.
pub struct Runs {
    socket: UdpSocket,
    names: Vec<libc::sockaddr_in>,
    vectors: Vec<libc::iovec>,
    controls: Vec<Control>,
    headers: Vec<libc::mmsghdr>,
}

impl Runs {
    /// A socket of its own for up to `most` runs a call.
    pub fn new(most: usize) -> io::Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, BUFFER)
            .or_else(|_| set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF, BUFFER))?;
        // SAFETY: all are plain C structures, for which zeros are valid.
        let (name, vector, header) = unsafe { (zeroed(), zeroed(), zeroed()) };
        let (names, vectors) = (vec![name; most], vec![vector; most]);
        Ok(Self { socket, names, vectors, controls: vec![[0; 4]; most], headers: vec![header; most] })
    }

    /// Sends `runs`: destination, bytes, and size of a segment when there are several. Gives how many runs left.
    pub fn send(&mut self, runs: &[(SocketAddrV4, &[u8], Option<u16>)]) -> io::Result<usize> {
        for (n, (to, bytes, segment)) in runs.iter().enumerate().take(self.headers.len()) {
            self.names[n].sin_family = libc::AF_INET as libc::sa_family_t;
            self.names[n].sin_port = to.port().to_be();
            self.names[n].sin_addr.s_addr = u32::from(*to.ip()).to_be();
            self.vectors[n] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            let header = &mut self.headers[n].msg_hdr;
            header.msg_name = (&raw mut self.names[n]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_iov = &raw mut self.vectors[n];
            header.msg_iovlen = 1;
            header.msg_control = std::ptr::null_mut();
            header.msg_controllen = 0;
            if let Some(segment) = segment {
                header.msg_control = (&raw mut self.controls[n]).cast();
                // SAFETY: the control block has room for one header with a u16 and is aligned for it.
                unsafe {
                    header.msg_controllen = libc::CMSG_SPACE(2) as usize;
                    let control = libc::CMSG_FIRSTHDR(header);
                    (*control).cmsg_level = libc::SOL_UDP;
                    (*control).cmsg_type = libc::UDP_SEGMENT;
                    (*control).cmsg_len = libc::CMSG_LEN(2) as usize;
                    libc::CMSG_DATA(control).cast::<u16>().write_unaligned(*segment);
                }
            }
        }
        let count = runs.len().min(self.headers.len()) as libc::c_uint;
        // SAFETY: `count` headers were set above; the bytes they lead to are borrowed for this call.
        let sent = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), self.headers.as_mut_ptr(), count, 0) };
        check(sent).map(|sent| sent as usize)
    }
}

/// CPU time that a process has used, user and system, with all threads that live or lived in it.
pub fn process_cpu(pid: u32) -> io::Result<Duration> {
    let mut clock = 0;
    // SAFETY: the result is written into a clockid_t; an error is given as a number.
    let failed = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut clock) };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(failed));
    }
    let mut time = timespec(Duration::ZERO);
    // SAFETY: the result is written into a timespec.
    check(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Returns the bytes of the file system of `path`, and those of them that are free for programs without privileges.
pub fn disk_space(path: &Path) -> io::Result<(u64, u64)> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a zero byte, the result is written into a statvfs, for which zeros are valid.
    let disk = unsafe {
        let mut disk: libc::statvfs = zeroed();
        check(libc::statvfs(path.as_ptr(), &raw mut disk))?;
        disk
    };
    Ok((disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize))
}

/// Asks a process to end (SIGTERM).
pub fn terminate(pid: u32) {
    // SAFETY: no pointers.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
}

/// Makes the kernel end the program of `command` (SIGTERM) when the thread that starts it ends.
pub fn end_with_parent(command: &mut Command) {
    // SAFETY: the closure makes one system call without pointers, which is allowed between fork and exec.
    unsafe { command.pre_exec(|| check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM)).map(drop)) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    #[test]
    fn program_ends_with_the_thread_that_started_it() {
        let start = || {
            let mut command = Command::new("sleep");
            end_with_parent(command.arg("60"));
            command.spawn().unwrap()
        };
        let mut child = std::thread::spawn(start).join().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
    }

    #[test]
    fn a_run_arrives_datagram_by_datagram_coalesced_or_not() {
        for coalesce in [true, false] {
            let receiver = Udp::bind([127, 0, 0, 1].into(), coalesce).unwrap();
            let SocketAddr::V4(to) = receiver.local_addr().unwrap() else { panic!("not IPv4") };
            let bytes: Vec<u8> = (0..250).collect();
            let mut runs = Runs::new(4).unwrap();
            assert_eq!(runs.send(&[(to, &bytes, Some(100)), (to, &bytes[..10], None)]).unwrap(), 2);
            let mut got = Vec::new();
            for _ in 0..100 {
                receiver.wait(Duration::from_millis(50));
                Receiver::default().receive(&receiver, |_, datagram| got.push(datagram.to_vec()));
                if got.len() == 4 {
                    break;
                }
            }
            assert_eq!(got, [&bytes[..100], &bytes[100..200], &bytes[200..], &bytes[..10]]);
        }
    }

    #[test]
    fn cpu_time_of_a_process_grows_with_its_work() {
        let before = process_cpu(std::process::id()).unwrap();
        let mut sum = 0u64;
        while process_cpu(std::process::id()).unwrap() < before + Duration::from_millis(5) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        // Above every pid_max (2^22), and within the 29 bits that a clock's number has for it.
        assert!(process_cpu(1 << 28).is_err());
    }
}
