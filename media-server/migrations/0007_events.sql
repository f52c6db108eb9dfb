-- Events survive a restart; old rows expire by index.

-- Written in the transaction of the changes that they report, before they are announced.
CREATE TABLE events (
    id       INTEGER PRIMARY KEY NOT NULL,
    -- The event before this one: a listener that has it has missed none. Ids have jumps.
    previous INTEGER NOT NULL CHECK (previous < id),
    at       TEXT NOT NULL,
    name     TEXT NOT NULL,
    room     TEXT NOT NULL,
    stream   TEXT NOT NULL,
    -- A JSON object.
    data     TEXT NOT NULL
) STRICT;

CREATE INDEX events_by_at ON events (at);

-- The ids of a process follow this one. Each start raises it, so that ids that were announced and not written before a crash
-- are not used again.
CREATE TABLE event_ids (
    id   INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    base INTEGER NOT NULL
) STRICT;

INSERT INTO event_ids (id, base) VALUES (1, 0);

CREATE INDEX streams_ended ON streams (ended_at, id) WHERE state = 'ended';
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;
