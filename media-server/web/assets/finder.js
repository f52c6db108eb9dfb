/**
 * Finds recordings by room and time in all that the server has. Lists on the page hold the newest ones only.
 */
import * as api from './api.js';
import {end} from './timeline.js';

/** Milliseconds. Typed times and the field of the page have whole seconds. */
const SECOND = 1000;
/** The next recording after a moment is looked for so far ahead, then farther by the factor: the server lists the newest first. */
const AHEAD = 3_600_000;
const FACTOR = 4;
/** Most recordings in one answer, and answers read for one window. */
const PAGE = 500;
const PAGES = 4;
/** Before the end of the recording, where a moment after it leads to. */
const LAST_SECONDS = 10;

/**
 * Returns `{recording, seconds, place}` for a moment in a room: `place` is `at`, or `after` and `before` when nothing is recorded
 * then. Null when the room has no recording.
 */
export async function findMoment(room, date) {
  const at = date.getTime();
  const usable = (list) => list.filter(({state}) => state !== 'failed');
  const now = usable(await findWindow(date, new Date(at + SECOND - 1), room));
  const hit = now.find((each) => each.startedAt.getTime() <= at && at < end(each)) ?? now.findLast((each) => each.startedAt.getTime() > at);
  if (hit) return {recording: hit, seconds: Math.max(0, (at - hit.startedAt) / 1000), place: 'at'};
  for (let ahead = AHEAD; at + ahead / FACTOR < Date.now(); ahead *= FACTOR) {
    const next = usable(await findWindow(date, new Date(at + ahead), room)).findLast((each) => each.startedAt.getTime() > at);
    if (next) return {recording: next, seconds: 0, place: 'after'};
  }
  const [last] = usable(await api.recordings({room, to: date}));
  return last ? {recording: last, seconds: Math.max(0, (end(last) - last.startedAt) / 1000 - LAST_SECONDS), place: 'before'} : null;
}

/**
 * Returns the recordings with media from one Date to the other, newest first, at most 2000; of all rooms when none is named.
 * The timeline draws the time before its list from this: an answer with spans and gaps of a room can replace it here.
 */
export async function findWindow(from, to, room = null) {
  const found = [];
  for (let page = 0; page < PAGES; page += 1) {
    const more = await api.recordings({room, from, to, limit: PAGE, before: found.at(-1)?.id});
    found.push(...more);
    if (more.length < PAGE) break;
  }
  return found;
}
