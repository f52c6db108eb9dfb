-- Recordings by room and time, down to their segments.

-- Closed segments of recordings that are not finished, as JSON. They move to recording_index when the recording is.
CREATE TABLE open_segments (
    recording TEXT NOT NULL,
    number    INTEGER NOT NULL,
    record    TEXT NOT NULL,
    -- 1 once the object store alone has the file.
    evicted   INTEGER NOT NULL DEFAULT 0 CHECK (evicted IN (0, 1)),
    PRIMARY KEY (recording, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX open_segments_local ON open_segments (recording, number) WHERE evicted = 0;

-- Finished recordings. Ones from before this table get their row when it is first needed.
CREATE TABLE recording_index (
    recording TEXT PRIMARY KEY NOT NULL,
    -- All segments, in the recorder's compact form.
    segments  BLOB NOT NULL,
    -- The first 1000 gaps, as JSON.
    gaps      TEXT NOT NULL
) STRICT;

CREATE INDEX recordings_by_room ON recordings (room, id);

-- Segments that left the disk before the recording was finished: its directory is incomplete.
ALTER TABLE recordings ADD COLUMN evicted_segments INTEGER NOT NULL DEFAULT 0;

CREATE INDEX recordings_incomplete ON recordings (id) WHERE evicted_segments > 0;

-- What was done once for this registry, such as reading the object store into it.
CREATE TABLE maintenance (
    name    TEXT PRIMARY KEY NOT NULL,
    done_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
