//! The relay beside the server: who may use it, what it reaches, and that secrets and certificates change under it.

use crate::harness::{Client, Server, alone, figure, until, within};
use crate::relay_place::{NOTICED, Place, SECRET, account, refusal, signal};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};
use streamsession_tests::camera::{Behaviour, Camera};
use streamsession_tests::peer::{IceRole, Identity, credentials};
use streamsession_tests::sdp::{self, Description, Local};
use streamsession_tests::turn::{Account, Allocation, TurnError};
use streamsession_tests::viewer::Viewer;

const UNAUTHORIZED: Option<u16> = Some(401);
const FORBIDDEN: u16 = 403;
const FAMILY_MISMATCH: u16 = 443;
const QUOTA_REACHED: u16 = 486;
/// Relays that one session's credentials are good for.
const QUOTA: usize = 12;

/// The first TURN server of a 201 or of a page's configuration.
fn told(link: &str) -> Account {
    let field = |name: &str| {
        let (_, rest) = link.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("no {name} in {link}"));
        rest.split_once('"').unwrap().0.to_owned()
    };
    Account { username: field("username"), credential: field("credential") }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_credentials_of_a_session_open_the_relay_and_only_for_their_time() {
    let _turn = alone().await;
    let place = Place::new();
    let relay = place.relay(place.pod.into()).await;
    let server = place.server(&relay).start().await;
    let answer = server.api.offer("/whip/door", crate::harness::camera_offer()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let link = answer.header("link");
    assert!(link.contains(&format!("<turn:{}?transport=udp>; rel=\"ice-server\"", relay.address)), "{link}");
    let session = told(link);
    let allocation = Allocation::open(relay.address, Some(&session)).await.unwrap();
    assert_eq!((allocation.relayed().ip(), allocation.software()), (IpAddr::V4(place.pod), None));
    let page = server.api.get("/config.json").await.json()["iceServers"][0].clone();
    let text = |name: &str| page[name].as_str().unwrap().to_owned();
    let page = Account { username: text("username"), credential: text("credential") };
    assert_ne!(page.username, session.username);
    assert_eq!(refusal(&relay, Some(&page)).await, None);

    let (expiry, id) = session.username.split_once(':').unwrap();
    let longer = expiry.parse::<u64>().unwrap() + 1;
    for (what, wrong) in [
        ("longer than it was given for", Account { username: format!("{longer}:{id}"), ..session.clone() }),
        ("for another session", Account { username: format!("{expiry}:{id}0"), ..session.clone() }),
        ("without an expiry", Account { username: id.to_owned(), ..session.clone() }),
        ("with another secret", account("south-south-south-south-south", "a", 60)),
        ("expired", account(SECRET, "a", -1)),
        ("with nothing", Account { username: account(SECRET, "a", 60).username, credential: String::new() }),
    ] {
        assert_eq!(refusal(&relay, Some(&wrong)).await, UNAUTHORIZED, "{what}");
    }
    assert_eq!(refusal(&relay, None).await, UNAUTHORIZED);
    let log = relay.log() + &server.log();
    assert!(!log.contains(SECRET) && !log.contains(&session.credential), "a secret is in a log");
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_rotates_is_good_within_seconds_and_drops_no_relay() {
    let _turn = alone().await;
    let place = Place::new();
    let mut relay = place.relay(place.pod.into()).await;
    let newer = "south-south-south-south-south-south";
    let process = relay.process();
    let mut kept = Allocation::open(relay.address, Some(&account(SECRET, "kept", 60))).await.unwrap();
    assert_eq!(refusal(&relay, Some(&account(newer, "b", 60))).await, UNAUTHORIZED);

    relay.secrets.swap(&[("secret", newer), ("secret.previous", SECRET)]);
    let start = Instant::now();
    let relay = &relay;
    until("the new secret", NOTICED, || async move {
        refusal(relay, Some(&account(newer, "b", 60))).await.is_none().then_some(())
    })
    .await;
    let noticed = start.elapsed();
    assert_eq!(refusal(relay, Some(&account(SECRET, "a", 60))).await, None, "the older one during the overlap");
    kept.refresh(Duration::from_secs(600)).await.unwrap();
    figure(&format!("a new secret was good after {:.1} s", noticed.as_secs_f64()));
    let process_then = relay.process();
    assert_eq!(process_then, process, "it was not started again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_withdrawn_is_refused_within_seconds_and_what_it_opened_goes_on() {
    let _turn = alone().await;
    let place = Place::new();
    let mut relay = place.relay(place.pod.into()).await;
    let mut kept = Allocation::open(relay.address, Some(&account(SECRET, "kept", 60))).await.unwrap();
    relay.secrets.swap(&[("secret", "south-south-south-south-south-south")]);
    let relay = &relay;
    until("the end of the old secret", NOTICED, || async move {
        (refusal(relay, Some(&account(SECRET, "a", 60))).await == UNAUTHORIZED).then_some(())
    })
    .await;
    kept.refresh(Duration::from_secs(600)).await.unwrap();
    kept.permit(place.pod.into()).await.unwrap();
}

/// The special ranges of both families (RFC 6890 and its registries), as first address and prefix length.
const SPECIAL_V4: [([u8; 4], u32); 19] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 31, 196, 0], 24),
    ([192, 52, 193, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([192, 175, 48, 0], 24),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
    ([255, 255, 255, 255], 32),
];
const SPECIAL_V6: [(&str, u32); 12] = [
    ("::", 128),
    ("::1", 128),
    ("::ffff:0.0.0.0", 96),
    ("64:ff9b::", 96),
    ("64:ff9b:1::", 48),
    ("100::", 64),
    ("2001::", 23),
    ("2001:db8::", 32),
    ("2002::", 16),
    ("fc00::", 7),
    ("fe80::", 10),
    ("ff00::", 8),
];

/// Metadata services, usual addresses of nodes, pods, services and DNS of a cluster, and some of the open Internet.
const FURTHER: [&str; 16] = [
    "169.254.169.254",
    "169.254.170.2",
    "fd00:ec2::254",
    "168.63.129.16",
    "172.18.0.2",
    "10.89.0.2",
    "10.244.0.1",
    "10.244.0.10",
    "10.96.0.1",
    "10.96.0.10",
    "127.0.0.1",
    "127.0.0.53",
    "8.8.8.8",
    "1.1.1.1",
    "2606:4700:4700::1111",
    "fe80::1",
];

/// First, last, and one beyond each of them.
fn edges(first: u128, size: u128, end: u128) -> impl Iterator<Item = u128> {
    let last = first + (size - 1);
    let around = [first.checked_sub(1), Some(first), Some(last), last.checked_add(1)];
    around.into_iter().flatten().filter(move |address| *address <= end)
}

/// All that must not be reached.
fn forbidden() -> Vec<IpAddr> {
    let v4 = SPECIAL_V4.iter().flat_map(|(first, prefix)| {
        let first = u128::from(u32::from_be_bytes(*first));
        edges(first, 1 << (32 - prefix), u32::MAX.into()).map(|address| Ipv4Addr::from(address as u32))
    });
    let v4: Vec<Ipv4Addr> = v4.collect();
    let v6 = SPECIAL_V6.iter().flat_map(|(first, prefix)| {
        let first: Ipv6Addr = first.parse().unwrap();
        edges(first.into(), 1 << (128 - prefix), u128::MAX).map(Ipv6Addr::from)
    });
    let mut all: Vec<IpAddr> = v6.map(IpAddr::V6).collect();
    all.extend(FURTHER.iter().map(|address| address.parse::<IpAddr>().unwrap()));
    all.extend(v4.iter().copied().map(IpAddr::V4));
    let mapped: Vec<IpAddr> = all
        .iter()
        .filter_map(|address| match address {
            IpAddr::V4(address) => Some(IpAddr::V6(address.to_ipv6_mapped())),
            IpAddr::V6(_) => None,
        })
        .collect();
    all.extend(mapped);
    all.sort();
    all.dedup();
    all
}

async fn tries_everything(allocation: &mut Allocation, addresses: &[IpAddr]) -> usize {
    let own_family = allocation.relayed().is_ipv4();
    let mut wrong = Vec::new();
    for (number, address) in addresses.iter().enumerate() {
        let peer = SocketAddr::new(*address, 8189);
        let channel = 0x4000 + number as u16;
        let answers = [allocation.permit(*address).await, allocation.bind_channel(channel, peer).await];
        for answer in answers {
            let refused = match answer.as_ref().map_err(TurnError::code) {
                Err(Some(FORBIDDEN)) => true,
                Err(Some(FAMILY_MISMATCH)) => address.is_ipv4() != own_family,
                _ => false,
            };
            if !refused {
                wrong.push(format!("{address}: {answer:?}"));
            }
        }
        allocation.send(peer, b"by indication").await.unwrap();
        allocation.send_by_channel(channel, b"by channel").await.unwrap();
    }
    assert!(wrong.is_empty(), "not refused by the relay at {}: {wrong:?}", allocation.relayed());
    // What comes after all of it is answered after all of it.
    allocation.refresh(Duration::from_secs(600)).await.unwrap();
    addresses.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_reaches_the_media_address_and_nothing_else() {
    let _turn = alone().await;
    let place = Place::new();
    for own in [IpAddr::V4(place.pod), IpAddr::V6(place.pod_v6)] {
        let relay = place.relay(own).await;
        let mut allocation = Allocation::open(relay.address, Some(&account(SECRET, "guest", 60))).await.unwrap();
        let mut addresses = forbidden();
        // The node, another pod beside this one, and the pod's other family, in all forms.
        let [a, b, c, d] = place.pod.octets();
        let others = [Ipv4Addr::new(a, b, c, d + 1), Ipv4Addr::new(a, b, c, d - 1)];
        addresses.extend(others.map(IpAddr::V4));
        addresses.extend(others.map(|other| IpAddr::V6(other.to_ipv6_mapped())));
        addresses.push(IpAddr::V6(place.pod.to_ipv6_mapped()));
        addresses.push(if own.is_ipv4() { place.pod_v6.into() } else { place.pod.into() });
        let before = place.escaped();
        let tried = tries_everything(&mut allocation, &addresses).await;
        assert_eq!(place.escaped(), before, "datagrams left the relay for elsewhere");

        allocation.permit(own).await.unwrap();
        let mut other = Allocation::open(relay.address, Some(&account(SECRET, "other", 60))).await.unwrap();
        other.permit(own).await.unwrap();
        allocation.send(other.relayed(), b"through both").await.unwrap();
        let (from, data) = within("a datagram at the pod", NOTICED, other.receive()).await.unwrap();
        assert_eq!((from, &data[..]), (allocation.relayed(), &b"through both"[..]));
        figure(&format!("relay at {own}: {tried} addresses refused twice each, 0 datagrams got out"));
    }
    // Otherwise the counter above would prove nothing.
    let before = place.escaped();
    for address in ["127.0.0.1", "10.1.2.3", "169.254.169.254"] {
        place.send_directly(SocketAddr::new(address.parse().unwrap(), 8189));
    }
    assert_eq!(place.escaped() - before, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_thirteenth_relay_of_a_session_is_refused_until_one_ends() {
    let _turn = alone().await;
    let place = Place::new();
    let relay = place.relay(place.pod.into()).await;
    let guest = account(SECRET, "guest", 60);
    let mut allocations = Vec::new();
    for number in 1..=QUOTA {
        let allocation = Allocation::open(relay.address, Some(&guest)).await;
        allocations.push(allocation.unwrap_or_else(|error| panic!("number {number}: {error}")));
    }
    assert_eq!(refusal(&relay, Some(&guest)).await, Some(QUOTA_REACHED));
    // Longer credentials for the same session are no way around it.
    assert_eq!(refusal(&relay, Some(&account(SECRET, "guest", 600))).await, Some(QUOTA_REACHED));
    assert_eq!(refusal(&relay, Some(&account(SECRET, "other", 60))).await, None);
    let start = Instant::now();
    allocations.pop().unwrap().refresh(Duration::ZERO).await.unwrap();
    let (relay, guest) = (&relay, &guest);
    until("a free place", NOTICED, || async move { refusal(relay, Some(guest)).await.is_none().then_some(()) }).await;
    figure(&format!("a relay's place was free {:.2} s after its end", start.elapsed().as_secs_f64()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_served_within_seconds_and_no_relay_is_lost() {
    let _turn = alone().await;
    let place = Place::new();
    let mut relay = place.secure_relay().await;
    assert!(relay.tls(&[]).contains("CN = first"), "{}", relay.tls(&[]));
    let old = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    assert!(!relay.tls(&old).contains("BEGIN CERTIFICATE"), "TLS 1.1 is spoken");
    assert!(relay.tls(&["-tls1_2"]).contains("CN = first"));

    let mut kept = Allocation::open(relay.address, Some(&account(SECRET, "kept", 60))).await.unwrap();
    kept.permit(place.pod.into()).await.unwrap();
    let tunnel = relay.tls_tunnel().await;
    let mut through_tls = Allocation::open(tunnel, Some(&account(SECRET, "tls", 60))).await.unwrap();
    through_tls.permit(place.pod.into()).await.unwrap();

    let process = relay.process();
    relay.renew_certificate("second");
    let start = Instant::now();
    let shared = &relay;
    until("the new certificate", NOTICED, || async move { shared.tls(&[]).contains("CN = second").then_some(()) })
        .await;
    figure(&format!("a renewed certificate was served after {:.1} s", start.elapsed().as_secs_f64()));
    assert_eq!(relay.process(), process, "it was not started again");
    for allocation in [&mut kept, &mut through_tls] {
        allocation.send(allocation.relayed(), b"still there").await.unwrap();
        let (_, data) = within("its own datagram", NOTICED, allocation.receive()).await.unwrap();
        assert_eq!(data, b"still there");
        allocation.refresh(Duration::from_secs(600)).await.unwrap();
    }
    // What openssl was told at its start has not changed: it is the same connection.
    assert!(relay.tunnel_log().contains("CN = first"), "{}", relay.tunnel_log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_is_back_within_seconds() {
    let _turn = alone().await;
    let place = Place::new();
    let relay = place.relay(place.pod.into()).await;
    let process = relay.process();
    signal("KILL", process);
    let start = Instant::now();
    let shared = &relay;
    until("another process", NOTICED, || async move { (shared.process() != process).then_some(()) }).await;
    relay.answers().await;
    assert_eq!(refusal(&relay, Some(&account(SECRET, "a", 60))).await, None);
    figure(&format!("a killed relay was back after {:.1} s", start.elapsed().as_secs_f64()));
    assert!(relay.terminate().await.success());
}

/// A sans-IO client whose only way is a relay.
struct Relayed<C> {
    client: C,
    allocation: Allocation,
}

impl<C: Client> Relayed<C> {
    /// Opens a session and, with what the server tells of it, a relay; candidates that the relay refuses fall out.
    async fn open(
        server: &Server,
        endpoint: &str,
        offer: impl FnOnce(&Local<'_>) -> String,
        client: impl FnOnce(&Identity, sfu::parameters::IceCredentials, Description) -> C,
    ) -> Relayed<C> {
        let (ice, identity) = (credentials(), Identity::generate().unwrap());
        // What the offer says of an address does not matter: the server learns it from checks.
        let nowhere = "192.0.2.1:9".parse().unwrap();
        let offer = offer(&Local { ice: &ice, fingerprint: identity.fingerprint(), address: nowhere });
        let answer = server.api.offer(endpoint, offer).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let link = answer.header("link");
        let url = link.split_once("<turn:").unwrap().1.split_once('?').unwrap().0;
        let mut allocation = Allocation::open(url.parse().unwrap(), Some(&told(link))).await.unwrap();
        let mut description = Description::parse(&answer.body).unwrap();
        let mut reachable = Vec::new();
        for candidate in description.remote.candidates {
            if allocation.permit(candidate.ip()).await.is_ok() {
                reachable.push(candidate);
            }
        }
        description.remote.candidates = reachable;
        Relayed { client: client(&identity, ice, description), allocation }
    }

    async fn live(&mut self, limit: Duration, mut done: impl FnMut(&C) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            self.client.handle_timeout(Instant::now());
            while let Some((to, datagram)) = self.client.poll_datagram() {
                self.allocation.send(to, &datagram).await.unwrap();
            }
            if done(&self.client) {
                return true;
            }
            let wake = self.client.poll_timeout().map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                received = self.allocation.receive() => {
                    let (from, datagram) = received.unwrap();
                    self.client.handle_datagram(Instant::now(), from, &datagram);
                }
                () = tokio::time::sleep_until(wake.into()) => {
                    if Instant::now() >= deadline {
                        return false;
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn camera_and_viewer_meet_through_relays_alone() {
    let _turn = alone().await;
    let place = Place::new();
    let relay = place.relay(place.pod.into()).await;
    // What is announced first cannot be reached; behind it the pod's own address is, for relays alone.
    let setup = place.server(&relay).variable("POD_IP", place.pod.to_string());
    let server = setup.argument("--announce").argument("203.0.113.7:31189").start().await;
    let ssrcs: [u32; 3] = rand::random();
    let behaviour = Behaviour { responsive: true, first_sequence: rand::random(), ssrcs };
    let mut camera = Relayed::open(
        &server,
        "/whip/door",
        |local| sdp::camera_offer(local, ssrcs),
        |identity, ice, answer| {
            assert_eq!(answer.remote.candidates.len(), 1, "{:?}", answer.remote.candidates);
            Camera::new(Instant::now(), identity, ice, answer, behaviour)
        },
    )
    .await;
    assert!(camera.live(NOTICED, |camera| camera.totals().frames > 0).await, "the camera does not connect");
    let mut viewer = Relayed::open(&server, "/whep/door", sdp::viewer_offer, |identity, ice, answer| {
        Viewer::new(Instant::now(), identity, IceRole::Controlling, ice, answer, 1)
    })
    .await;
    let limit = Duration::from_secs(10);
    let mut seen = false;
    tokio::select! {
        _ = camera.live(limit, |_| false) => {}
        enough = viewer.live(limit, |viewer| viewer.totals().opened >= 1000) => seen = enough,
    }
    let totals = viewer.client.totals();
    assert!(seen && totals.forged == 0 && totals.damaged == 0, "{totals:?}");
    assert_eq!(viewer.client.started_with_keyframe(), Some(true));
    assert_eq!(viewer.client.lost(), 0);
    assert_eq!(place.escaped(), 0);
    figure(&format!("through two relays: {} packets opened, 0 lost", totals.opened));
}
