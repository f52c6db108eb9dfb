//! Many viewers on real sockets, in one thread: the load generator's half of the load test.
//!
//! While it measures, the thread naps between looks at its sockets, so that what arrives meanwhile is taken in one go: the
//! generator shall cost little, and a server that shares its machine shall not pay for waking it with every packet.

use crate::sys::{Epoll, Receiver, Udp};
use crate::viewer::{Totals, Viewer};
use std::io;
use std::sync::mpsc::{Receiver as Inbox, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks at the timers.
const TIMERS_EVERY: Duration = Duration::from_millis(10);
/// Longest wait for a packet or an order.
const WAIT: Duration = Duration::from_millis(1);

enum Order {
    Join(Udp, Box<Viewer>, Instant),
    Sink(Udp),
    Nap(Duration),
    Mark(Sender<Report>),
    Report(Sender<Report>),
    Leave,
}

/// One viewer, as it stands.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Counts.
    pub totals: Totals,
    /// Packets that were to come and packets that have not, between each two marks.
    pub spans: Vec<(u64, u64)>,
    /// From the request to the end of the handshake.
    pub connected: Option<Duration>,
    /// From the request to the first packet.
    pub first_packet: Option<Duration>,
    /// From the request to the first packet of a keyframe.
    pub first_keyframe: Option<Duration>,
    /// SRTP profile.
    pub profile: Option<String>,
    /// Why it is over.
    pub error: Option<String>,
}

/// All viewers, and what the sinks took.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order they joined.
    pub viewers: Vec<Standing>,
    /// Datagrams that sinks took.
    pub sunk: u64,
}

impl Report {
    /// RTP datagrams of all viewers.
    pub fn packets(&self) -> u64 {
        self.viewers.iter().map(|viewer| viewer.totals.packets).sum()
    }

    /// Different media packets of all viewers.
    pub fn unique(&self) -> u64 {
        self.viewers.iter().map(|viewer| viewer.totals.unique).sum()
    }
}

/// See the module.
pub struct Crowd {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

impl Crowd {
    /// An empty crowd.
    pub fn start() -> io::Result<Self> {
        let (orders, inbox) = channel();
        let epoll = Epoll::new()?;
        let body = move || Hall { epoll, receiver: Receiver::default(), members: Vec::new(), marks: 0 }.run(&inbox);
        let thread = std::thread::Builder::new().name("viewers".into()).spawn(body)?;
        Ok(Self { orders, thread })
    }

    /// A viewer comes; it was asked for at `posted`.
    pub fn join(&self, socket: Udp, viewer: Viewer, posted: Instant) {
        let _ = self.orders.send(Order::Join(socket, Box::new(viewer), posted));
    }

    /// A socket whose datagrams are counted and dropped.
    pub fn sink(&self, socket: Udp) {
        let _ = self.orders.send(Order::Sink(socket));
    }

    /// From now on, rests so long after each look.
    pub fn nap(&self, nap: Duration) {
        let _ = self.orders.send(Order::Nap(nap));
    }

    /// Begins or ends a span, and tells how everyone stands at this moment.
    pub fn mark(&self) -> Report {
        self.ask(Order::Mark)
    }

    /// How everyone stands.
    pub fn report(&self) -> Report {
        self.ask(Order::Report)
    }

    fn ask(&self, order: impl FnOnce(Sender<Report>) -> Order) -> Report {
        let (answer, answers) = channel();
        let _ = self.orders.send(order(answer));
        answers.recv().unwrap_or_default()
    }

    /// Everyone says goodbye.
    pub fn leave(self) {
        let _ = self.orders.send(Order::Leave);
        let _ = self.thread.join();
    }
}

struct Member {
    socket: Udp,
    /// `None` for a sink.
    viewer: Option<(Box<Viewer>, Instant)>,
    sunk: u64,
}

struct Hall {
    epoll: Epoll,
    receiver: Receiver,
    members: Vec<Member>,
    marks: usize,
}

impl Hall {
    fn run(mut self, inbox: &Inbox<Order>) {
        let (mut ready, mut nap) = (Vec::new(), Duration::ZERO);
        let mut timers_at = Instant::now();
        loop {
            match inbox.try_recv() {
                Ok(Order::Join(socket, viewer, posted)) => self.admit(socket, Some((viewer, posted))),
                Ok(Order::Sink(socket)) => self.admit(socket, None),
                Ok(Order::Nap(span)) => nap = span,
                Ok(Order::Mark(answer)) => {
                    self.receive_all();
                    self.members.iter_mut().flat_map(|member| &mut member.viewer).for_each(|(viewer, _)| viewer.mark());
                    self.marks += 1;
                    let _ = answer.send(self.report());
                }
                Ok(Order::Report(answer)) => {
                    let _ = answer.send(self.report());
                }
                Ok(Order::Leave) | Err(TryRecvError::Disconnected) => return self.leave(),
                Err(TryRecvError::Empty) => {}
            }
            self.epoll.wait(if nap.is_zero() { WAIT } else { Duration::ZERO }, &mut ready);
            for token in &ready {
                self.receive(*token);
            }
            let now = Instant::now();
            if now >= timers_at {
                timers_at = now + TIMERS_EVERY;
                for member in &mut self.members {
                    let Some((viewer, _)) = &mut member.viewer else { continue };
                    if viewer.poll_timeout().is_some_and(|at| at <= now) {
                        viewer.handle_timeout(now);
                        member.flush();
                    }
                }
            }
            if !nap.is_zero() {
                std::thread::sleep(nap);
            }
        }
    }

    fn admit(&mut self, socket: Udp, viewer: Option<(Box<Viewer>, Instant)>) {
        let token = self.members.len();
        let mut member = Member { socket, viewer, sunk: 0 };
        if let Some((viewer, _)) = &mut member.viewer {
            viewer.handle_timeout(Instant::now());
        }
        member.flush();
        // Out of memory or descriptors: the member then counts as one who got nothing.
        let _ = self.epoll.add(&member.socket, token);
        self.members.push(member);
    }

    fn receive_all(&mut self) {
        for token in 0..self.members.len() {
            self.receive(token);
        }
    }

    fn receive(&mut self, token: usize) {
        let Some(member) = self.members.get_mut(token) else { return };
        let now = Instant::now();
        match &mut member.viewer {
            Some((viewer, _)) => {
                self.receiver.receive(&member.socket, |from, datagram| viewer.handle_datagram(now, from, datagram));
            }
            None => self.receiver.receive(&member.socket, |_, _| member.sunk += 1),
        }
        member.flush();
    }

    fn report(&self) -> Report {
        let mut report = Report::default();
        for member in &self.members {
            match &member.viewer {
                Some((viewer, posted)) => report.viewers.push(standing(viewer, *posted, self.marks)),
                None => report.sunk += member.sunk,
            }
        }
        report
    }

    fn leave(mut self) {
        for member in &mut self.members {
            if let Some((viewer, _)) = &mut member.viewer {
                viewer.close(Instant::now());
            }
            member.flush();
        }
    }
}

impl Member {
    fn flush(&mut self) {
        let Some((viewer, _)) = &mut self.viewer else { return };
        while let Some((to, datagram)) = viewer.poll_datagram() {
            self.socket.send(to, &datagram);
        }
    }
}

fn standing(viewer: &Viewer, posted: Instant, marks: usize) -> Standing {
    let since = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(posted));
    Standing {
        totals: viewer.totals(),
        spans: (1..marks).map(|n| viewer.span(n - 1)).collect(),
        connected: since(viewer.connected_at()),
        first_packet: since(viewer.first_packet()),
        first_keyframe: since(viewer.first_keyframe()),
        profile: viewer.peer().profile().map(|profile| format!("{profile:?}")),
        error: viewer.peer().error().map(ToString::to_string),
    }
}
