//! Payload memory of a ring: chunks of 16 KiB that payloads are appended to, reused as their packets expire.
//!
//! A chunk is free again when the last packet in it is removed. Free chunks are kept for reuse up to the highest use of the last
//! two measuring spans, then returned to the allocator: a steady stream allocates nothing, and a ring shrinks with its stream.

/// Bytes of a chunk: 11 of the largest payloads, and small enough for a ring of audio.
pub(super) const CHUNK: usize = 16 * 1024;

/// Where a payload is: chunk number and offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    /// No payload.
    pub(super) const NONE: Self = Self(u32::MAX);

    fn new(chunk: usize, offset: usize) -> Self {
        Self((chunk as u32) << 16 | offset as u32)
    }

    fn chunk(self) -> usize {
        (self.0 >> 16) as usize
    }

    fn offset(self) -> usize {
        (self.0 & 0xffff) as usize
    }
}

struct Chunk {
    /// Empty while its memory is returned.
    bytes: Box<[u8]>,
    /// Packets in it.
    live: u32,
}

/// The payloads of a ring.
pub(super) struct Chunks {
    chunks: Vec<Chunk>,
    /// Chunks with memory and without packets.
    free: Vec<u16>,
    /// Chunks with released memory.
    vacant: Vec<u16>,
    /// The chunk that payloads are appended to, and the bytes used of it.
    current: Option<usize>,
    used: usize,
    /// Most chunks with packets.
    limit: usize,
    in_use: usize,
    /// Highest `in_use` of the last measuring span and of this one.
    peaks: [usize; 2],
}

impl Chunks {
    /// No memory yet, and never more than `bytes`, at least one chunk.
    pub(super) fn new(bytes: usize) -> Self {
        let (chunks, free, vacant) = (Vec::new(), Vec::new(), Vec::new());
        let limit = Self::limit_of(bytes);
        Self { chunks, free, vacant, current: None, used: 0, limit, in_use: 0, peaks: [0; 2] }
    }

    fn limit_of(bytes: usize) -> usize {
        (bytes / CHUNK).clamp(1, usize::from(u16::MAX))
    }

    /// Sets the limit; chunks beyond a lower one stay until their packets are removed.
    pub(super) fn set_limit(&mut self, bytes: usize) {
        self.limit = Self::limit_of(bytes);
    }

    /// Returns whether packets must be removed to keep a limit that was lowered.
    pub(super) fn is_over_limit(&self) -> bool {
        self.in_use > self.limit
    }

    /// Appends a payload of at most [`CHUNK`] bytes; `None` when something must be removed first.
    pub(super) fn store(&mut self, payload: &[u8]) -> Option<Place> {
        let chunk = match self.current {
            Some(chunk) if CHUNK - self.used >= payload.len() => chunk,
            _ => self.next_chunk()?,
        };
        let offset = self.used.min(CHUNK - 1);
        let place = Place::new(chunk, offset);
        self.chunks[chunk].bytes[offset..offset + payload.len()].copy_from_slice(payload);
        self.chunks[chunk].live += 1;
        self.used += payload.len();
        Some(place)
    }

    fn next_chunk(&mut self) -> Option<usize> {
        if self.in_use >= self.limit {
            return None;
        }
        let chunk = if let Some(chunk) = self.free.pop() {
            usize::from(chunk)
        } else if let Some(chunk) = self.vacant.pop() {
            self.chunks[usize::from(chunk)].bytes = vec![0; CHUNK].into_boxed_slice();
            usize::from(chunk)
        } else {
            self.chunks.push(Chunk { bytes: vec![0; CHUNK].into_boxed_slice(), live: 0 });
            // Room in the lists for every chunk, so that only a ring that grows allocates.
            self.free.reserve(self.chunks.len() - self.free.len());
            self.vacant.reserve(self.chunks.len() - self.vacant.len());
            self.chunks.len() - 1
        };
        self.current = Some(chunk);
        self.used = 0;
        self.in_use += 1;
        self.peaks[1] = self.peaks[1].max(self.in_use);
        Some(chunk)
    }

    /// Removes one payload.
    pub(super) fn remove(&mut self, place: Place) {
        let chunk = place.chunk();
        self.chunks[chunk].live -= 1;
        if self.chunks[chunk].live > 0 {
            return;
        }
        if self.current == Some(chunk) {
            self.used = 0;
            return;
        }
        self.in_use -= 1;
        self.free.push(chunk as u16);
    }

    /// The payload of `len` bytes at `place`.
    pub(super) fn get(&self, place: Place, len: usize) -> &[u8] {
        &self.chunks[place.chunk()].bytes[place.offset()..][..len]
    }

    /// Ends a measuring span: returns the memory that neither it nor the span before has used.
    pub(super) fn end_span(&mut self) {
        let most = self.peaks[0].max(self.peaks[1]);
        self.peaks = [self.peaks[1], self.in_use];
        while self.in_use + self.free.len() > most {
            let Some(chunk) = self.free.pop() else { break };
            self.chunks[usize::from(chunk)].bytes = Box::default();
            self.vacant.push(chunk);
        }
    }

    /// Bytes that are allocated for payloads.
    pub(super) fn memory(&self) -> usize {
        (self.in_use + self.free.len()) * CHUNK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_reuse_the_memory_of_removed_ones() {
        let mut chunks = Chunks::new(4 * CHUNK);
        let mut places = std::collections::VecDeque::new();
        for n in 0..10_000u32 {
            let payload = n.to_be_bytes().repeat(300);
            let place = loop {
                match chunks.store(&payload) {
                    Some(place) => break place,
                    None => chunks.remove(places.pop_front().map(|(_, place)| place).unwrap()),
                }
            };
            places.push_back((n, place));
            for (n, place) in &places {
                assert_eq!(chunks.get(*place, 4), n.to_be_bytes());
            }
        }
        assert_eq!((chunks.memory(), chunks.chunks.len()), (4 * CHUNK, 4));
    }

    #[test]
    fn memory_is_returned_after_two_spans_without_use() {
        let mut chunks = Chunks::new(64 * CHUNK);
        let places: Vec<Place> = (0..64).map(|_| chunks.store(&[1; CHUNK]).unwrap()).collect();
        assert_eq!(chunks.store(b"x"), None);
        places.into_iter().for_each(|place| chunks.remove(place));
        chunks.end_span();
        assert_eq!(chunks.memory(), 64 * CHUNK);
        chunks.end_span();
        chunks.end_span();
        assert_eq!(chunks.memory(), CHUNK, "the chunk that is written to");
        assert!((0..64).all(|_| chunks.store(&[2; CHUNK]).is_some()));
    }

    #[test]
    fn empty_payloads_take_no_room() {
        let mut chunks = Chunks::new(CHUNK);
        let full = chunks.store(&[1; CHUNK]).unwrap();
        let empty = chunks.store(&[]).unwrap();
        assert_eq!((chunks.get(full, CHUNK).len(), chunks.get(empty, 0).len()), (CHUNK, 0));
    }
}
