//! kill -9 and power cuts while segments are recorded, rotated, uploaded, evicted and finished: nothing acknowledged is lost.
//!
//! A crash hits several cameras, at a random moment near one of those phases ([`moment`]). The phases that it hit are read
//! from the disk and the store ([`scene`]), and counted. The [`ledger`] checks after each restart that all acknowledged
//! segments are recorded, and that at most a part of each track is missing.

mod ledger;
mod moment;
mod scene;

use crate::harness::{Server, Setup, VolatileDisk, alone, dense_clip, figure, until};
use crate::store::{Kind, Store, session};
use futures_util::future::join_all;
use ledger::{Feed, Ledger};
use moment::{Moment, Moments};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use scene::{Phase, Scene};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::time::Instant;
use streamsession_tests::nightly::{choose, is_nightly};

const ROOMS: [&str; 3] = ["yard", "gate", "hall"];
/// Short segments and recordings. Verified ones leave the disk at the next eviction.
const RECORDING: &str = "segmentDuration: 1s, maxDuration: 1m, retention: {keepFree: 90%}";
/// Recordings pause with less than 64 MiB free.
const DISK: u64 = 192 << 20;
/// Leaves less than 90% of the disk free.
const BALLAST: usize = 24 << 20;
/// Crashes between two lines of progress.
const REPORT: usize = 50;
/// A nightly run hits each phase so often at least.
const LEAST_HITS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "nightly"]
async fn kill_9_at_any_moment_loses_nothing_acknowledged() {
    let _turn = alone().await;
    let Some(store) = Store::start(Kind::Minio).await else { return };
    let setup = store.setup_with(store.address(), &format!("recording: {{{RECORDING}}}"));
    crash(choose(12, 1000), &store, &setup, None).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "nightly"]
async fn power_cut_at_any_moment_loses_nothing_acknowledged() {
    let _turn = alone().await;
    let Some(store) = Store::start(Kind::Minio).await else { return };
    let setup = store.setup_with(store.address(), &format!("recording: {{{RECORDING}}}"));
    let disk = setup.volatile_disk(DISK);
    let mut ballast = File::create(disk.path().join("ballast")).unwrap();
    ballast.write_all(&vec![1; BALLAST]).unwrap();
    ballast.sync_all().unwrap();
    drop(ballast);
    let setup = setup.data(&disk.path().join("data"));
    crash(choose(8, 200), &store, &setup, Some(&disk)).await;
}

/// Crashes a server so often, by cutting the power of `disk` where there is one, and checks the ledger after each.
async fn crash(crashes: usize, store: &Store, setup: &Setup, disk: Option<&VolatileDisk>) {
    let seed = std::env::var("E2E_SEED").map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    figure(&format!("E2E_SEED={seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let clip = dense_clip().await;
    let (mut ledger, mut moments) = (Ledger::default(), Moments::default());
    let mut hits: BTreeMap<Phase, usize> = BTreeMap::new();
    let (mut kept, mut lost) = (0, 0);
    let started = Instant::now();
    for number in 1..=crashes {
        let mut crash = Crash { setup, store, ledger: &mut ledger, random: &mut random };
        let moment = moments.next(crash.random);
        let (server, feeds) = match moment.is_early() {
            true => crash.early(moment).await,
            false => crash.late(moment, &clip).await,
        };
        let sent: Vec<_> = feeds.iter().map(Feed::sent).collect();
        if let Some(disk) = disk {
            disk.cut();
        }
        server.kill();
        let scene = Scene::read(&setup.recordings(), store, &ROOMS);
        for phase in scene.phases(store, &feeds, &ledger) {
            *hits.entry(phase).or_default() += 1;
        }
        ledger.crashed(&scene, feeds, sent, disk.is_none());
        if let Some(disk) = disk {
            let cut = disk.restore(&mut random);
            (kept, lost) = (kept + cut.kept, lost + cut.lost);
        }
        if number % REPORT == 0 {
            let seconds = started.elapsed().as_secs();
            figure(&format!("{number} crashes in {seconds} s: {hits:?}; {ledger}"));
        }
    }
    ledger.starts(&setup.recordings());
    finish(&setup.start().await, store, setup, &mut ledger).await;
    let seconds = started.elapsed().as_secs();
    figure(&format!("{crashes} crashes in {seconds} s: {hits:?}; {ledger}; all is in the store"));
    if disk.is_some() {
        figure(&format!("power cuts: {lost} sectors of the disk's cache lost, {kept} kept"));
        assert!(lost > 0 && kept > 0, "no cut hit a cache that held something");
    }
    let expected: &[Phase] = if is_nightly() { &Phase::ALL } else { &[Phase::Recording] };
    let least = choose(1, LEAST_HITS);
    for phase in expected {
        assert!(
            hits.get(phase).is_some_and(|hits| *hits >= least),
            "{phase:?} was hit less than {least} times: {hits:?}"
        );
    }
}

/// The parts of a test that a crash needs.
struct Crash<'a, R> {
    setup: &'a Setup,
    store: &'a Store,
    ledger: &'a mut Ledger,
    random: &'a mut R,
}

impl<R: Rng> Crash<'_, R> {
    /// Starts a server without cameras, and returns at a moment while it takes up earlier recordings.
    async fn early(&mut self, moment: Moment) -> (Server, Vec<Feed>) {
        self.ledger.starts(&self.setup.recordings());
        let server = self.setup.spawn();
        moment.wait(self.random, &self.setup.recordings(), &server, &mut []).await;
        (server, Vec::new())
    }

    /// Starts a server and its cameras, checks earlier streams, and returns at a moment of the new ones.
    async fn late(&mut self, moment: Moment, clip: &crate::harness::Files) -> (Server, Vec<Feed>) {
        self.ledger.starts(&self.setup.recordings());
        let server = self.setup.start().await;
        let cameras = join_all(ROOMS.map(|room| Feed::start(&server, room, clip.source())));
        let (mut feeds, ()) = tokio::join!(cameras, self.ledger.check(&server, self.store));
        moment.wait(self.random, &self.setup.recordings(), &server, &mut feeds).await;
        (server, feeds)
    }
}

/// Waits until all is in the store alone, and checks every file.
async fn finish(server: &Server, store: &Store, setup: &Setup, ledger: &mut Ledger) {
    ledger.check(server, store).await;
    session(server, "all is uploaded", |session| session["uploads"]["pending"] == 0).await;
    let recordings = setup.recordings();
    until("all has left the disk", ledger::LIMIT, || async {
        let left = ledger.recordings().filter(|(_, id)| recordings.join(id).exists()).count();
        (left == 0).then_some(())
    })
    .await;
    ledger.check_stored(server, store).await;
}
