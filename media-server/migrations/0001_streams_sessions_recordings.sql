-- Times are RFC 3339 in UTC with exactly six fractional digits, so that they compare as text.
-- Ids of streams and sessions are UUIDs of version 7: their order is the order in which they were made.

CREATE TABLE streams (
    id         TEXT PRIMARY KEY NOT NULL,
    room       TEXT NOT NULL,
    name       TEXT,
    owner      TEXT NOT NULL,
    account    TEXT,
    publisher  TEXT,
    state      TEXT NOT NULL CHECK (state IN ('created', 'live', 'ended')),
    -- Made by POST /streams before its publisher came: it waits, also across restarts.
    ahead      INTEGER NOT NULL CHECK (ahead IN (0, 1)),
    created_at TEXT NOT NULL,
    started_at TEXT,
    ended_at   TEXT,
    end_reason TEXT,
    -- The last time a running server said that a live stream was live.
    seen_at    TEXT,
    CHECK ((state = 'ended') = (ended_at IS NOT NULL)),
    CHECK ((state = 'ended') = (end_reason IS NOT NULL)),
    CHECK (state <> 'live' OR started_at IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX streams_by_room ON streams (room, id);
CREATE INDEX streams_open ON streams (state) WHERE state <> 'ended';

CREATE TABLE sessions (
    id           TEXT PRIMARY KEY NOT NULL,
    stream       TEXT NOT NULL REFERENCES streams (id) ON DELETE CASCADE,
    role         TEXT NOT NULL CHECK (role IN ('publisher', 'subscriber')),
    subject      TEXT NOT NULL,
    account      TEXT,
    started_at   TEXT NOT NULL,
    connected_at TEXT,
    ended_at     TEXT,
    reason       TEXT,
    CHECK ((ended_at IS NULL) = (reason IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_by_stream ON sessions (stream, id);
CREATE INDEX sessions_open ON sessions (id) WHERE ended_at IS NULL;

CREATE TABLE recordings (
    stream      TEXT PRIMARY KEY NOT NULL REFERENCES streams (id),
    path        TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('recording', 'finalising', 'complete', 'repaired', 'failed')),
    bytes       INTEGER NOT NULL DEFAULT 0,
    duration_ms INTEGER NOT NULL DEFAULT 0,
    gaps        INTEGER NOT NULL DEFAULT 0,
    started_at  TEXT NOT NULL,
    ended_at    TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX recordings_unfinished ON recordings (state) WHERE state IN ('recording', 'finalising');
