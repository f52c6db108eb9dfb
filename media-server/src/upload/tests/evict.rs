//! When free space is checked.

use super::bench::{Bench, Frozen, keeping, until};
use std::fs;
use std::time::Duration;
use tokio::sync::watch;

#[tokio::test]
async fn eviction_keeps_its_period_under_notes() {
    let bench = Bench::new().await;
    let (rules, receiver) = watch::channel(keeping("0%"));
    bench.uploads.follow(receiver);
    let recording = bench.record(&["one"]).await;
    bench.uploads.recording_finished(&recording);
    bench.drained().await;
    let directory = bench.folder(&recording);
    let _frozen = Frozen::freeze();
    rules.send_replace(keeping("9000000Ti"));
    for round in 0..12 {
        // Two minutes in all, with a note every 100 ms.
        let mut evicted_after = None;
        for note in 1..=105 {
            bench.uploads.recording_removed();
            tokio::time::advance(Duration::from_millis(100)).await;
            // Answered by the same loop: the note is taken.
            bench.uploads.nothing_waits().await;
            if !directory.exists() {
                evicted_after = Some(note);
                break;
            }
        }
        assert!(evicted_after.is_some(), "round {round}: still on the disk after 10 s of notes");
        until("the journal has the eviction", async || bench.store.evictable().await.unwrap().is_empty()).await;
        // It returns, and has to leave with the next period.
        fs::create_dir(&directory).unwrap();
        bench.store.returned(&recording).await.unwrap();
    }
}

#[tokio::test]
async fn full_disk_is_freed_without_pauses() {
    let mut bench = Bench::new().await;
    // More than five passes' worth: at one pass a period it would take most of a minute.
    for _ in 0..44 {
        bench.uploads.recording_finished(&bench.record(&["one"]).await);
    }
    bench.drained().await;
    bench.stop();
    bench.settings.keep_free = keeping("9000000Ti").keep_free;
    bench.restart();
    bench.until("all have left", |bench| fs::read_dir(bench.place.path()).unwrap().count() == 0).await;
}
