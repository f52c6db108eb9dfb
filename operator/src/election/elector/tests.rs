//! Electors in virtual time, against an API server that is a variable.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

const SECOND: Duration = Duration::from_secs(1);

/// An API server with one lease: a write has to name the version that is there.
#[derive(Clone, Debug, Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
}

impl Server {
    fn write(&mut self, mut lease: Lease) -> Option<Lease> {
        let there = self.lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        if there != lease.metadata.resource_version {
            return None;
        }
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease.clone());
        Some(lease)
    }

    fn holder(&self) -> String {
        self.lease.as_ref().and_then(|lease| lease.spec.as_ref()?.holder_identity.clone()).unwrap_or_default()
    }

    fn spec(&self) -> LeaseSpec {
        self.lease.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default()
    }
}

/// What people's clocks show; it must not matter.
fn wall(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// Everything that is due at `now`, answered at once.
fn step(elector: &mut Elector, server: &mut Server, now: Instant, wall: Timestamp) {
    for _ in 0..8 {
        match elector.poll(now, wall) {
            Next::Wait(until) => return assert!(until > now),
            Next::Read => elector.handle_read(now, now, server.lease.clone()),
            Next::Write(lease) => match server.write(*lease) {
                Some(lease) => elector.handle_written(now, now, lease),
                None => elector.handle_failed(now),
            },
        }
    }
    panic!("it never waits");
}

fn elector(identity: &str) -> Elector {
    Elector::new("operator", identity, Times::default())
}

#[test]
fn the_first_creates_the_lease_and_renews_it_and_the_second_stands_by() {
    let (start, mut server) = (Instant::now(), Server::default());
    let (mut a, mut b) = (elector("a"), elector("b"));
    for second in 0..60 {
        let now = start + SECOND * second;
        step(&mut a, &mut server, now, wall(i64::from(second)));
        step(&mut b, &mut server, now, wall(i64::from(second)));
        assert!(a.leads(now) && !b.leads(now), "second {second}");
        assert_eq!(b.leader(), Some("a"));
    }
    let spec = server.spec();
    assert_eq!((spec.lease_duration_seconds, spec.lease_transitions), (Some(15), Some(0)));
    assert_eq!(spec.acquire_time, Some(MicroTime(wall(0))), "as long as it leads");
    assert_eq!(spec.renew_time, Some(MicroTime(wall(58))));
    assert_eq!(server.version, 30, "once every two seconds");
}

#[test]
fn a_silent_leader_is_followed_after_the_time_of_its_lease_and_not_before() {
    let (start, mut server) = (Instant::now(), Server::default());
    let (mut a, mut b) = (elector("a"), elector("b"));
    step(&mut a, &mut server, start, wall(0));
    let mut took = None;
    for tenth in 0..200 {
        let now = start + SECOND / 10 * tenth;
        step(&mut b, &mut server, now, wall(0));
        if b.leads(now) {
            took.get_or_insert(now - start);
        }
    }
    let took = took.unwrap();
    assert!(took >= SECOND * 15 && took <= SECOND * 17, "{took:?}");
    assert_eq!((server.holder().as_str(), server.spec().lease_transitions), ("b", Some(1)));
}

#[test]
fn a_leader_that_cannot_renew_is_none_from_the_deadline_on_before_another_leads() {
    let (start, mut server) = (Instant::now(), Server::default());
    let (mut a, mut b) = (elector("a"), elector("b"));
    step(&mut a, &mut server, start, wall(0));
    step(&mut b, &mut server, start, wall(0));
    let (mut ended, mut followed) = (None, None);
    for tenth in 1..250 {
        let now = start + SECOND / 10 * tenth;
        // Nothing of what it asks is answered.
        if let Next::Read | Next::Write(_) = a.poll(now, wall(0)) {
            a.handle_failed(now);
        }
        step(&mut b, &mut server, now, wall(0));
        if !a.leads(now) {
            ended.get_or_insert(now - start);
        }
        if b.leads(now) {
            followed.get_or_insert(now - start);
        }
    }
    assert_eq!(ended, Some(SECOND * 10));
    assert!(followed.unwrap() >= SECOND * 15, "{followed:?}");
}

#[test]
fn clocks_that_are_hours_apart_neither_make_a_second_leader_nor_hinder_the_first() {
    for skew in [-7200, 7200] {
        let (start, mut server) = (Instant::now(), Server::default());
        let (mut a, mut b) = (elector("a"), elector("b"));
        for second in 0..60 {
            let now = start + SECOND * second;
            step(&mut a, &mut server, now, wall(i64::from(second) + skew));
            step(&mut b, &mut server, now, wall(i64::from(second)));
            assert!(a.leads(now) && !b.leads(now), "second {second}, skew {skew}");
        }
    }
}

#[test]
fn a_released_lease_is_taken_at_the_next_look() {
    let (start, mut server) = (Instant::now(), Server::default());
    let (mut a, mut b) = (elector("a"), elector("b"));
    step(&mut a, &mut server, start, wall(0));
    step(&mut b, &mut server, start, wall(0));
    let released = a.release(wall(1)).unwrap().unwrap();
    server.write(released).unwrap();
    assert_eq!(server.holder(), "");
    step(&mut b, &mut server, start + SECOND * 2, wall(2));
    assert!(b.leads(start + SECOND * 2));
    assert_eq!(server.spec().lease_duration_seconds, Some(15), "and not what the release said");
    assert_eq!(b.release(wall(3)).map(|lease| lease.is_some()), Ok(true));
    a.handle_read(start, start, server.lease.clone());
    assert_eq!(a.release(wall(3)), Ok(None), "it is another's");
}

#[test]
fn a_release_after_an_unanswered_write_reads_first() {
    let (start, mut server) = (Instant::now(), Server::default());
    let mut a = elector("a");
    step(&mut a, &mut server, start, wall(0));
    let now = start + SECOND * 2;
    let Next::Write(lease) = a.poll(now, wall(2)) else { panic!("it is time to renew") };
    server.write(*lease).unwrap();
    assert_eq!(a.release(wall(3)), Err(NotCurrent));
    a.handle_read(now, now, server.lease.clone());
    let released = a.release(wall(3)).unwrap().unwrap();
    assert!(server.write(released).is_some(), "with the version that is there");
}

#[test]
fn of_two_that_want_a_free_lease_one_is_told_and_stands_by() {
    let (now, mut server) = (Instant::now(), Server::default());
    let (mut a, mut b) = (elector("a"), elector("b"));
    for elector in [&mut a, &mut b] {
        assert_eq!(elector.poll(now, wall(0)), Next::Read);
        elector.handle_read(now, now, None);
    }
    let (Next::Write(first), Next::Write(second)) = (a.poll(now, wall(0)), b.poll(now, wall(0))) else { panic!() };
    a.handle_written(now, now, server.write(*first).unwrap());
    assert!(server.write(*second).is_none(), "there is one already");
    b.handle_failed(now);
    assert!(a.leads(now) && !b.leads(now));
    step(&mut b, &mut server, now + SECOND * 2, wall(2));
    assert_eq!(b.leader(), Some("a"));
}

#[test]
fn a_leader_whose_lease_another_has_leads_no_more() {
    let (start, mut server) = (Instant::now(), Server::default());
    let mut a = elector("a");
    step(&mut a, &mut server, start, wall(0));
    server.lease.as_mut().unwrap().spec.as_mut().unwrap().holder_identity = Some("thief".to_owned());
    server.lease.as_mut().unwrap().metadata.resource_version = Some("99".to_owned());
    let now = start + SECOND * 2;
    step(&mut a, &mut server, now, wall(2));
    assert!(a.leads(now), "told 409, it does not know yet");
    let now = start + SECOND * 4;
    step(&mut a, &mut server, now, wall(4));
    assert!(!a.leads(now));
}

#[test]
fn a_deleted_lease_is_made_anew_by_its_holder_and_by_others_only_after_its_time() {
    let (start, mut server) = (Instant::now(), Server::default());
    let (mut a, mut b) = (elector("a"), elector("b"));
    step(&mut a, &mut server, start, wall(0));
    step(&mut b, &mut server, start, wall(0));
    server.lease = None;
    let now = start + SECOND * 2;
    step(&mut b, &mut server, now, wall(2));
    assert!(!b.leads(now), "its holder may still lead");
    step(&mut a, &mut server, now, wall(2));
    step(&mut a, &mut server, start + SECOND * 4, wall(4));
    assert!(a.leads(start + SECOND * 4));
    assert_eq!(server.holder(), "a");

    server.lease = None;
    for second in 5..30 {
        step(&mut b, &mut server, start + SECOND * second, wall(0));
    }
    assert_eq!(server.holder(), "b", "nobody held on to it");
}

#[test]
fn a_process_that_starts_again_under_its_name_goes_on_at_once() {
    let (start, mut server) = (Instant::now(), Server::default());
    step(&mut elector("a"), &mut server, start, wall(0));
    let (mut again, now) = (elector("a"), start + SECOND * 3);
    step(&mut again, &mut server, now, wall(3));
    assert!(again.leads(now));
    assert_eq!(server.spec().lease_transitions, Some(0));
}

#[test]
fn what_others_wrote_into_the_lease_is_kept_and_its_nonsense_harmless() {
    let now = Instant::now();
    let mut server = Server::default();
    let odd = LeaseSpec {
        holder_identity: Some("b".to_owned()),
        lease_duration_seconds: Some(-1),
        lease_transitions: Some(i32::MAX),
        ..LeaseSpec::default()
    };
    let labels = std::collections::BTreeMap::from([("kept".to_owned(), "yes".to_owned())]);
    let metadata = ObjectMeta { labels: Some(labels.clone()), ..ObjectMeta::default() };
    server.write(Lease { metadata, spec: Some(odd) }).unwrap();
    let mut a = elector("a");
    for second in 0..20 {
        step(&mut a, &mut server, now + SECOND * second, wall(0));
    }
    assert_eq!((server.holder().as_str(), server.spec().lease_transitions), ("a", Some(i32::MAX)));
    assert_eq!(server.lease.unwrap().metadata.labels, Some(labels));
}

/// What befalls one exchange: how long it takes to the server and back, in tenths of a second, and whether it gets there.
#[derive(Clone, Debug)]
struct Fate {
    there: u32,
    back: u32,
    lost: bool,
    answer_lost: bool,
}

fn fate() -> impl Strategy<Value = Fate> {
    (0..40_u32, 0..40_u32, 0..10_u8, 0..10_u8).prop_map(|(there, back, lost, answer)| Fate {
        there,
        back,
        lost: lost == 0,
        answer_lost: answer == 0,
    })
}

/// An elector, the exchange that it waits for, and how fast its clock runs.
struct Agent {
    elector: Elector,
    rate: f64,
    sent: Instant,
    flight: VecDeque<(u32, Flight)>,
}

enum Flight {
    Read,
    Write(Box<Lease>, bool),
    ReadAnswer(Option<Lease>),
    Written(Lease),
    Failed,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    // Exchanges take up to eight seconds, get lost on either way and arrive late; clocks run up to a tenth too fast or slow,
    // and those that people read stand still.
    #[test]
    fn never_do_two_lead(
        fates in prop::collection::vec(fate(), 1..200),
        rates in prop::collection::vec(0.9..1.1_f64, 3),
        stalls in prop::collection::vec((0..3_usize, 0..1200_u32, 1..300_u32), 0..4),
    ) {
        let (start, mut server) = (Instant::now(), Server::default());
        let mut fates = fates.into_iter().cycle();
        let mut agents: Vec<Agent> = rates.iter().enumerate().map(|(index, rate)| Agent {
            elector: elector(&index.to_string()), rate: *rate, sent: start, flight: VecDeque::new(),
        }).collect();
        for tick in 0..1200_u32 {
            let mut leaders = 0;
            for (index, agent) in agents.iter_mut().enumerate() {
                let now = start + (SECOND / 10 * tick).mul_f64(agent.rate);
                leaders += usize::from(agent.elector.leads(now));
                // Stopped for a while, as by a debugger: it sees nothing, and its lease runs out meanwhile.
                let stalled = stalls.iter().any(|(who, from, long)| *who == index && tick >= *from && tick < from + long);
                while let Some((due, _)) = agent.flight.front() {
                    if *due > tick { break; }
                    let Some((_, flight)) = agent.flight.pop_front() else { break };
                    let fate = fates.next().unwrap();
                    match flight {
                        // At the server, whatever its sender does.
                        Flight::Read => agent.flight.push_back((tick + fate.back, Flight::ReadAnswer(server.lease.clone()))),
                        Flight::Write(lease, answered) => {
                            let answer = match server.write(*lease) {
                                Some(lease) if answered => Flight::Written(lease),
                                _ => Flight::Failed,
                            };
                            agent.flight.push_back((tick + fate.back, answer));
                        }
                        answer if stalled => { agent.flight.push_front((tick + 1, answer)); break; }
                        Flight::ReadAnswer(lease) => agent.elector.handle_read(agent.sent, now, lease),
                        Flight::Written(lease) => agent.elector.handle_written(agent.sent, now, lease),
                        Flight::Failed => agent.elector.handle_failed(agent.sent),
                    }
                }
                if !agent.flight.is_empty() || stalled { continue; }
                let fate = fates.next().unwrap();
                let sends = match agent.elector.poll(now, wall(0)) {
                    Next::Wait(_) => continue,
                    _ if fate.lost => Flight::Failed,
                    Next::Read => Flight::Read,
                    Next::Write(lease) => Flight::Write(lease, !fate.answer_lost),
                };
                agent.sent = now;
                agent.flight.push_back((tick + fate.there, sends));
            }
            prop_assert!(leaders <= 1, "{leaders} lead at {tick}");
        }
    }
}
