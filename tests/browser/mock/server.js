/**
 * Serves the pages with made-up streams, recordings and events, under the server's own Content-Security-Policy: for
 * accessibility, keyboard and layout, which need states that are hard to bring about live. No media.
 */
import {createServer} from 'node:http';
import {createReadStream} from 'node:fs';
import {readFile, stat} from 'node:fs/promises';
import {extname, join, normalize} from 'node:path';
import {fileURLToPath} from 'node:url';

const WEB = fileURLToPath(new URL('../../../media-server/web/', import.meta.url));
const TYPES = {'.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml'};
/** As media-server/src/http/pages.rs sends it. */
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob: mediastream:; connect-src 'self'; "
  + "font-src 'self'; worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors ";

export const ago = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();

/** As media-server/src/problem.rs words them: status, title, detail. */
const PROBLEMS = {
  'no-publisher': [409, 'Nobody publishes into this room', 'nobody publishes in this room'],
  'room-busy': [409, 'The room has a publisher already', 'the room has another publisher'],
  'subscribers-full': [503, 'No more viewers fit into this room', 'full: limits.maxSubscribersPerRoom is 40'],
  'publishers-full': [503, 'No more cameras fit', 'full: limits.maxPublishers is 4'],
  'storage-unavailable': [503, 'The server cannot write its registry', 'the registry cannot be read or written now'],
  'token-missing': [401, 'A bearer token is required', 'the request carries no bearer token'],
  'token-invalid': [401, 'The bearer token is not valid', 'it has expired'],
  'scope-missing': [403, 'The token does not allow this', 'the token lacks the scope'],
  'unsupported-offer': [422, 'The offer cannot be accepted', 'm=video offers VP8, and none of them can be used; offer H264, which the camera sends'],
  'room-not-granted': [403, 'The token is for another room', 'the token is for another room'],
};

/** What a route answers when it refuses. */
export function refusal(kind, headers = {'Retry-After': '3'}) {
  const [status, title, detail] = PROBLEMS[kind];
  return {status, headers: status === 401 || status === 403 ? {} : headers, problem: {type: `/problems/${kind}`, title, status, detail}};
}

/** A recording as the API tells of it. */
export function recording({id, stream = id, state, endedAt = null, gapCount = 0, gaps = [], trouble = null, stored = null, ...rest}) {
  const finished = state === 'complete' || state === 'repaired';
  const url = (file) => `/recordings/${id}/${file}`;
  return {id, stream, state, endedAt, gapCount, gaps, trouble, stored, account: null, publisher: null, ...rest,
    urls: {playlist: url('index.m3u8'), mp4: finished ? url('recording.mp4') : null, manifest: finished ? url('manifest.json') : null}};
}

/** A stream's trouble as media-server/sfu/src/shard/trouble.rs words it. */
const LOSSY = {reason: 'viewer-loss', message: 'a viewer loses 10 % or more of its packets: check its network, for example its Wi-Fi', since: ago(40), peer: 'viewer'};
const RARE_KEYFRAMES = {reason: 'group-too-long', message: 'keyframes are too far apart and the encoder ignores requests for one, so new viewers wait for a picture: '
  + 'set a keyframe interval of 1 to 4 s in the encoder', since: ago(600), peer: 'publisher'};

/** What the mock tells; a test may replace members. `signalling` and `publishing` are what a POST to WHEP and WHIP gets. */
export function world() {
  return {
    streams: [
      {id: 's1', room: 'front-door', name: 'Front door, upper camera', state: 'live', publishing: true, createdAt: ago(5000), startedAt: ago(5000), viewers: 12,
        trouble: [RARE_KEYFRAMES, LOSSY, {...LOSSY, since: ago(20)}], publisher: 'anonymous:7f3a9c', live: {viewersBitrateBps: 29_000_000, publisher: {connected: true, bitrateBps: 2_431_000, packets: 90_000, packetsLost: 40, videoCodec: 'H264', audioCodec: 'opus'}}},
      {id: 's2', room: 'workshop', name: null, state: 'live', publishing: false, createdAt: ago(320), startedAt: ago(310), viewers: 1,
        publisher: 'camera-with-a-rather-long-identity@example.com', live: {viewersBitrateBps: 0}},
      {id: 's3', room: 'a-room-name-that-is-as-long-as-names-are-allowed-to-be-0123456789', name: null, state: 'created', publishing: false, createdAt: ago(60), viewers: 0,
        publisher: null},
      {id: 'r2', room: 'front-door', name: null, state: 'ended', createdAt: ago(20_000), startedAt: ago(20_000), endedAt: ago(12_000), endReason: 'idle', viewers: 0},
      {id: 'r3', room: 'workshop', name: null, state: 'ended', createdAt: ago(90_000), startedAt: ago(90_000), endedAt: ago(88_000), endReason: 'server-restart', viewers: 0},
    ],
    recordings: [
      recording({id: 's1', room: 'front-door', state: 'recording', startedAt: ago(5000), bytes: 1_502_114_008, durationSeconds: 5000, gapCount: 1}),
      recording({id: 'r2', room: 'front-door', state: 'complete', startedAt: ago(20_000), endedAt: ago(12_000), bytes: 2_431_880_112, durationSeconds: 8000, gapCount: 2,
        gaps: [{track: 'video', from: 1200.5, to: 1204.1, reason: 'loss'}, {track: 'video', from: 4000, to: 4900, reason: 'source'}]}),
      recording({id: 's2', room: 'workshop', state: 'recording', startedAt: ago(310), bytes: 0, durationSeconds: 310, trouble: 'the disk is full'}),
      recording({id: 'r3', room: 'workshop', state: 'repaired', startedAt: ago(40_000), endedAt: ago(38_000), bytes: 623_880_112, durationSeconds: 2000, gapCount: 1,
        gaps: [{track: 'audio', from: 1990, to: 2000, reason: 'disk'}]}),
      recording({id: 'r4', room: 'workshop', state: 'failed', startedAt: ago(60_000), endedAt: ago(59_990), bytes: 0, durationSeconds: 0, trouble: 'nothing playable was recorded'}),
    ],
    manifest: {exports: [{file: 'recording.mp4', bytes: 2_431_880_112, start: 0, duration: 8000}]},
    events: [
      {id: 1, name: 'publisher:joined', at: ago(310), data: {room: 'workshop', stream: 's2'}},
      {id: 2, name: 'stream:started', at: ago(310), data: {room: 'workshop', stream: 's2'}},
      {id: 3, name: 'viewers:changed', at: ago(200), data: {room: 'front-door', stream: 's1', count: 12}},
      {id: 4, name: 'trouble:started', at: ago(40), data: {room: 'front-door', stream: 's1', reason: LOSSY.reason, message: LOSSY.message, peer: LOSSY.peer}},
      {id: 5, name: 'publisher:left', at: ago(20), data: {room: 'workshop', stream: 's2'}},
    ],
    signalling: refusal('no-publisher'),
    publishing: refusal('publishers-full'),
    /** What every route of the API answers, when it is one of `refusal`. */
    api: null,
    ended: [],
    config: {version: '0.1.0', auth: 'jwt', media: true, mediaPort: 8189, recording: true, metrics: true, iceServers: []},
    mp4: null,
    /** By the id of a recording: the directory of its playlist and segments. */
    segments: {},
  };
}

/** Gives `{url, world, close}`. */
export async function startMock() {
  const state = world();
  const server = createServer((request, response) => answer(request, response, state).catch((error) => {
    response.writeHead(500).end(String(error));
  }));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    world: state,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** A page of recordings, as the server selects it. */
function page({recordings}, query) {
  const end = ({endedAt}) => (endedAt ? Date.parse(endedAt) : Infinity);
  const [from, to] = ['from', 'to'].map((name) => Date.parse(query.get(name)));
  const sorted = recordings.toSorted((one, other) => Date.parse(other.startedAt) - Date.parse(one.startedAt));
  const behind = query.has('before') ? sorted.findIndex(({id}) => id === query.get('before')) + 1 : 0;
  return sorted.slice(behind).filter((each) => (!query.has('room') || each.room === query.get('room'))
    && (!query.has('from') || end(each) >= from) && (!query.has('to') || Date.parse(each.startedAt) <= to)).slice(0, Number(query.get('limit') ?? 100));
}

async function answer(request, response, state) {
  const {pathname} = new URL(request.url, 'http://mock');
  const json = (body, status = 200) => response.writeHead(status, {'Content-Type': 'application/json'}).end(JSON.stringify(body));
  const named = /^\/(publish|watch)\/[^/]+$/.exec(pathname);
  if (named) return file(response, `${named[1]}.html`, named[1] === 'watch' ? '*' : "'none'");
  if (pathname === '/') return file(response, 'index.html');
  if (pathname.startsWith('/assets/')) return file(response, normalize(pathname).slice(1));
  if (pathname.startsWith('/problems/')) return response.writeHead(200, {'Content-Type': 'text/html'}).end('<!doctype html><title>Problem</title>');
  if (state.api && /^\/(streams|recordings|events)/.test(pathname)) return refuse(response, state.api);
  if (pathname === '/streams') return json({streams: state.streams});
  if (pathname.endsWith('/end') && request.method === 'POST') {
    const id = pathname.split('/')[2];
    state.ended.push(id);
    const stream = state.streams.find((each) => each.id === id);
    Object.assign(stream, {state: 'ended', publishing: false, endedAt: new Date().toISOString(), endReason: 'ended'});
    return json(stream);
  }
  if (pathname === '/config.json') return json(state.config);
  if (pathname === '/media-tokens') return json({token: 'media', expiresAt: new Date(Date.now() + 3_600_000).toISOString()}, 201);
  const [, id, name] = /^\/recordings\/([^/]+)\/([\w.-]+\.(?:m3u8|m4s|mp4))$/.exec(pathname) ?? [];
  if (state.segments[id] && name !== 'recording.mp4') {
    const type = name.endsWith('.m3u8') ? 'application/vnd.apple.mpegurl' : 'video/mp4';
    return response.writeHead(200, {'Content-Type': type}).end(await readFile(join(state.segments[id], name)));
  }
  if (pathname === '/recordings') return json({recordings: page(state, new URL(request.url, 'http://mock').searchParams)});
  const shown = state.recordings.find(({id}) => pathname === `/recordings/${id}`);
  if (shown) return json(shown);
  if (pathname.endsWith('/manifest.json')) return json(state.manifest);
  if (pathname.endsWith('.mp4') && state.mp4) {
    // Browsers seek only where ranges are served.
    const {size} = await stat(state.mp4);
    const [, from = 0, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
    const start = Number(from);
    const end = to ? Math.min(Number(to), size - 1) : size - 1;
    response.writeHead(request.headers.range ? 206 : 200, {'Content-Type': 'video/mp4', 'Accept-Ranges': 'bytes', 'Content-Length': end - start + 1,
      ...(request.headers.range ? {'Content-Range': `bytes ${start}-${end}/${size}`} : {})});
    return createReadStream(state.mp4, {start, end}).pipe(response);
  }
  if (pathname === '/events') {
    response.writeHead(200, {'Content-Type': 'text/event-stream'});
    for (const event of state.events) response.write(`id: ${event.id}\nevent: ${event.name}\ndata: ${JSON.stringify(event)}\n\n`);
    return undefined;
  }
  if (/^\/(whip|whep)\//.test(pathname)) {
    request.resume();
    return refuse(response, pathname.startsWith('/whip/') ? state.publishing : state.signalling);
  }
  return json({title: 'Not found', status: 404}, 404);
}

function refuse(response, {status, headers, problem}) {
  return response.writeHead(status, {'Content-Type': 'application/problem+json', ...headers}).end(JSON.stringify(problem));
}

async function file(response, path, ancestors = "'none'") {
  const body = await readFile(join(WEB, path)).catch(() => null);
  if (!body) return response.writeHead(404).end();
  return response.writeHead(200, {'Content-Type': TYPES[extname(path)] ?? 'application/octet-stream', 'Content-Security-Policy': CSP + ancestors, 'Cache-Control': 'no-store'}).end(body);
}
