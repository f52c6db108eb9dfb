//! A disk with a volatile write cache, for power cuts.
//!
//! The disk is ext4 on a loop device. The file behind the loop device is served here over FUSE (linux/fuse.h), so each
//! write and each flush is visible. Sectors written since the last flush are in the cache. A power cut keeps some of them
//! and loses the others, as a drive may; a sector of 4 KiB is never torn. dm-log-writes does the same, and fewer kernels
//! have it. Needs root, FUSE and loop devices.

use super::namespace::system;
use rand::Rng;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SECTOR: usize = 4096;
/// Largest write of the kernel. Reads are not larger.
const MAX_WRITE: usize = 128 << 10;
const LIMIT: Duration = Duration::from_secs(10);

const EIO: i32 = 5;
const ENOSYS: i32 = 38;

/// A mounted disk. Dropping it unmounts it.
pub(crate) struct VolatileDisk {
    mounted: PathBuf,
    image: PathBuf,
    medium: Arc<Mutex<Medium>>,
    _folder: Arc<TempDir>,
}

/// Sectors of the cache at a power cut.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cut {
    pub(crate) kept: usize,
    pub(crate) lost: usize,
}

/// The bytes of the disk.
struct Medium {
    /// Content as it is read.
    current: Vec<u8>,
    /// Content after a power cut that loses the entire cache.
    durable: Vec<u8>,
    /// Sectors written since the last flush.
    cached: BTreeSet<usize>,
    powered: bool,
    opened: usize,
    /// Time that each byte takes to be written.
    byte_time: Duration,
}

impl VolatileDisk {
    /// Makes a disk of this size and mounts it in `folder`.
    pub(super) fn new(folder: Arc<TempDir>, bytes: u64) -> VolatileDisk {
        let (mounted, image) = (folder.path().join("disk"), folder.path().join("disk.img"));
        std::fs::create_dir(&mounted).unwrap();
        File::create(&image).unwrap().set_len(bytes).unwrap();
        // Otherwise the kernel writes the inode tables in the background.
        let options = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
        system("mkfs.ext4", &["-q", "-b", "4096", "-m", "0", "-E", options, text(&image)]);
        let content = std::fs::read(&image).unwrap();
        let medium = Medium {
            durable: content.clone(),
            current: content,
            cached: BTreeSet::new(),
            powered: true,
            opened: 0,
            byte_time: Duration::ZERO,
        };
        let medium = Arc::new(Mutex::new(medium));
        serve(&image, Arc::clone(&medium));
        let disk = VolatileDisk { mounted, image, medium, _folder: folder };
        disk.mount();
        disk
    }

    /// The mount point.
    pub(crate) fn path(&self) -> &Path {
        &self.mounted
    }

    /// Limits the rate of writes.
    pub(crate) fn limit_writes(&self, bytes_per_second: u32) {
        lock(&self.medium).byte_time = Duration::from_secs(1) / bytes_per_second;
    }

    /// Cuts the power: from now on each write and flush fails. Reads still give the content before the cut.
    pub(crate) fn cut(&self) {
        lock(&self.medium).powered = false;
    }

    /// Restores the power, and mounts the disk again. No process may use it.
    pub(crate) fn restore(&self, random: &mut impl Rng) -> Cut {
        self.unmount();
        let cut = lock(&self.medium).lose(random);
        self.mount();
        cut
    }

    /// As a node mounts a volume: ext4's defaults, so `data=ordered` and barriers.
    fn mount(&self) {
        system("mount", &["-t", "ext4", "-o", "loop", text(&self.image), text(&self.mounted)]);
    }

    fn unmount(&self) {
        system("umount", &[text(&self.mounted)]);
        // The loop device leaves a moment later.
        let start = Instant::now();
        while lock(&self.medium).opened > 0 {
            assert!(start.elapsed() < LIMIT, "{} is still in use", self.image.display());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for VolatileDisk {
    fn drop(&mut self) {
        for path in [&self.mounted, &self.image] {
            let _ = Command::new("umount").arg("--lazy").arg(path).stderr(Stdio::null()).status();
        }
    }
}

impl Medium {
    fn write(&mut self, at: usize, bytes: &[u8]) -> bool {
        let Some(place) = self.current.get_mut(at..at + bytes.len()).filter(|_| self.powered) else { return false };
        place.copy_from_slice(bytes);
        self.cached.extend(at / SECTOR..(at + bytes.len()).div_ceil(SECTOR));
        true
    }

    fn flush(&mut self) -> bool {
        if self.powered {
            for sector in std::mem::take(&mut self.cached) {
                let place = sector * SECTOR..(sector + 1) * SECTOR;
                self.durable[place.clone()].copy_from_slice(&self.current[place]);
            }
        }
        self.powered
    }

    /// Keeps all of the cache, nothing of it, or any of its sectors. The power is back.
    fn lose(&mut self, random: &mut impl Rng) -> Cut {
        let share = match random.random_range(0..4) {
            0 => 0.0,
            1 => 1.0,
            _ => random.random(),
        };
        let mut cut = Cut::default();
        for sector in std::mem::take(&mut self.cached) {
            let place = sector * SECTOR..(sector + 1) * SECTOR;
            if random.random_bool(share) {
                self.durable[place.clone()].copy_from_slice(&self.current[place]);
                cut.kept += 1;
            } else {
                self.current[place.clone()].copy_from_slice(&self.durable[place]);
                cut.lost += 1;
            }
        }
        self.powered = true;
        cut
    }
}

/// Mounts `medium` over the file `image`, and serves it until it is unmounted. The root of the file system is a file.
fn serve(image: &Path, medium: Arc<Mutex<Medium>>) {
    let mut kernel = OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
    let mount = Command::new("mount")
        .args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=100600,user_id=0,group_id=0", "disk"])
        .arg(image)
        .stdin(Stdio::from(kernel.try_clone().unwrap()))
        .output()
        .unwrap();
    assert!(mount.status.success(), "mount -t fuse: {}", String::from_utf8_lossy(&mount.stderr));
    let serve = move || {
        let mut buffer = vec![0; MAX_WRITE + 4096];
        loop {
            match kernel.read(&mut buffer) {
                Ok(length) => {
                    let request = Request(&buffer[..length]);
                    if let Some(answer) = answer(&request, &mut lock(&medium)) {
                        // An error means that the request was given up.
                        let _ = kernel.write(&request.reply(answer));
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::NotFound) => {}
                // Unmounted.
                Err(_) => return,
            }
        }
    };
    std::thread::Builder::new().name("volatile-disk".to_owned()).spawn(serve).unwrap();
}

/// A request of the kernel: a header of 40 bytes, then the fields of its kind.
struct Request<'a>(&'a [u8]);

impl Request<'_> {
    fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    /// The range of bytes of a read or write.
    fn range(&self) -> (usize, usize) {
        (self.u64(48) as usize, self.u32(56) as usize)
    }

    /// Puts a header of 16 bytes before an answer.
    fn reply(&self, answer: Result<Vec<u8>, i32>) -> Vec<u8> {
        let (error, body) = answer.map_or_else(|error| (-error, Vec::new()), |body| (0, body));
        let mut reply = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
        reply.extend(error.to_ne_bytes());
        reply.extend(&self.0[8..16]);
        reply.extend(body);
        reply
    }
}

/// Answers a request; `None` where the kernel expects no answer.
fn answer(request: &Request<'_>, medium: &mut Medium) -> Option<Result<Vec<u8>, i32>> {
    let done = |done: bool| if done { Ok(Vec::new()) } else { Err(EIO) };
    Some(match request.u32(4) {
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return None,
        // GETATTR
        3 => Ok(attributes(medium.current.len() as u64)),
        // OPEN
        14 => {
            medium.opened += 1;
            Ok(words(&[0, 0, FOPEN_DIRECT_IO, 0]))
        }
        // READ
        15 => {
            let (at, length) = request.range();
            let end = medium.current.len();
            Ok(medium.current[at.min(end)..(at + length).min(end)].to_vec())
        }
        // WRITE
        16 => {
            let (at, length) = request.range();
            std::thread::sleep(medium.byte_time * length as u32);
            done(medium.write(at, &request.0[80..80 + length])).map(|_| words(&[length as u32, 0]))
        }
        // RELEASE
        18 => {
            medium.opened -= 1;
            done(true)
        }
        // FSYNC
        20 => done(medium.flush()),
        // FLUSH: a file is closed.
        25 => done(true),
        // INIT: version 7.31, a read-ahead of nothing, FUSE_BIG_WRITES and FUSE_MAX_PAGES.
        26 => {
            let sizes = [(12 << 16) | 16, MAX_WRITE as u32, 1, (MAX_WRITE / 4096) as u32];
            let mut body = words(&[7, 31, 0, (1 << 5) | (1 << 22)]);
            body.extend(words(&sizes));
            body.resize(64, 0);
            Ok(body)
        }
        _ => Err(ENOSYS),
    })
}

/// The page cache of the loop device is enough.
const FOPEN_DIRECT_IO: u32 = 1;

/// The attributes of a file of this length, which may change at once.
fn attributes(length: u64) -> Vec<u8> {
    let mut body = vec![0; 16];
    for word in [1, length, length / 512, 0, 0, 0] {
        body.extend(u64::to_ne_bytes(word));
    }
    // Three fractions of seconds, mode, links, owner, group, device, block size, flags.
    body.extend(words(&[0, 0, 0, 0o100_600, 1, 0, 0, 0, 4096, 0]));
    body
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn lock(medium: &Mutex<Medium>) -> MutexGuard<'_, Medium> {
    medium.lock().unwrap_or_else(PoisonError::into_inner)
}
