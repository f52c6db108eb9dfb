-- What goes to the object store, and what is there. Times are as in 0001.

-- A file of a recording. It is pending until a PUT was answered, uploaded until the store has shown that it holds it.
CREATE TABLE uploads (
    stream    TEXT NOT NULL,
    file      TEXT NOT NULL,
    -- 0: segments and what they begin with; 1: the playlist; 2: the manifest. A rank waits for all of those below.
    rank      INTEGER NOT NULL CHECK (rank IN (0, 1, 2)),
    -- Below the prefix of the session.
    key       TEXT NOT NULL,
    bytes     INTEGER NOT NULL,
    sha256    TEXT NOT NULL,
    state     TEXT NOT NULL CHECK (state IN ('pending', 'uploaded', 'verified')),
    attempts  INTEGER NOT NULL DEFAULT 0,
    -- Not tried again before.
    next_at   TEXT NOT NULL,
    queued_at TEXT NOT NULL,
    -- Why the newest attempt failed.
    reason    TEXT,
    PRIMARY KEY (stream, file)
) STRICT, WITHOUT ROWID;

CREATE INDEX uploads_waiting ON uploads (stream, rank) WHERE state <> 'verified';

-- A finished recording that goes to the store. It is wholly there once its manifest is: committed_at.
CREATE TABLE stored_recordings (
    stream       TEXT PRIMARY KEY NOT NULL,
    -- The gaps of its manifest, as JSON: lists need no request to the store.
    gaps         TEXT NOT NULL,
    committed_at TEXT,
    -- When its folder left the disk.
    evicted_at   TEXT,
    CHECK (evicted_at IS NULL OR committed_at IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX stored_recordings_uncommitted ON stored_recordings (stream) WHERE committed_at IS NULL;
CREATE INDEX stored_recordings_local ON stored_recordings (committed_at) WHERE evicted_at IS NULL;

-- Objects of a recording that was deleted here and may still be in the store.
CREATE TABLE removals (
    stream   TEXT PRIMARY KEY NOT NULL,
    -- What their keys begin with.
    prefix   TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at  TEXT NOT NULL,
    reason   TEXT
) STRICT, WITHOUT ROWID;
