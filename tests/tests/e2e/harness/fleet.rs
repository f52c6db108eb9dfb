//! Many cameras in one process, each with its own socket and thread. They retransmit, so that loopback loses nothing.

use super::{Server, until};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use streamsession_tests::camera::{Behaviour, Camera, Totals};
use streamsession_tests::peer::{Identity, credentials};
use streamsession_tests::sdp::{Description, Local, camera_offer};
use streamsession_tests::source::Source;
use streamsession_tests::stream::Stream;
use streamsession_tests::sys::Udp;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Running cameras, each in its own room.
pub(crate) struct Fleet {
    cameras: Vec<(String, Source)>,
}

impl Fleet {
    /// Publishes `stream` into `count` rooms, and waits until each camera sends.
    pub(crate) async fn publish(server: &Server, count: usize, stream: &Stream) -> Fleet {
        let identity = Identity::generate().unwrap();
        let mut cameras = Vec::new();
        for number in 0..count {
            let room = format!("camera-{number:02}");
            let camera = publish(server, &room, &identity, stream).await;
            cameras.push((room, camera));
        }
        let cameras_ref = &cameras;
        until("every camera sends", CONNECT_LIMIT, || async move {
            cameras_ref.iter().all(|(_, camera)| camera.totals().frames > 0).then_some(())
        })
        .await;
        Fleet { cameras }
    }

    /// Ends all cameras. Returns their rooms and counts.
    pub(crate) async fn stop(self) -> Vec<(String, Totals)> {
        let stop = || self.cameras.into_iter().map(|(room, camera)| (room, camera.stop())).collect();
        // It waits for threads.
        tokio::task::block_in_place(stop)
    }
}

async fn publish(server: &Server, room: &str, identity: &Identity, stream: &Stream) -> Source {
    let (socket, ice) = (Udp::bind(LOCALHOST, false).unwrap(), credentials());
    let ssrcs: [u32; 3] = rand::random();
    let address = socket.local_addr().unwrap();
    let offer = camera_offer(&Local { ice: &ice, fingerprint: identity.fingerprint(), address }, ssrcs);
    let answer = server.api.offer(&format!("/whip/{room}"), offer).await;
    assert_eq!(answer.status, 201, "{room}: {answer:?}");
    let mut answer = Description::parse(&answer.body).unwrap();
    answer.remote.candidates.retain(SocketAddr::is_ipv4);
    answer.remote.candidates.sort_by_key(|candidate| !candidate.ip().is_loopback());
    let behaviour = Behaviour { responsive: false, first_sequence: rand::random(), ssrcs };
    let mut camera = Camera::new(Instant::now(), identity, ice, answer, behaviour);
    *camera.stream() = stream.clone();
    Source::webrtc(socket, camera).unwrap()
}
