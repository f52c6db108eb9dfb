/**
 * A WHEP player that stands alone: this one file, no imports, no build step. Two lines give a picture:
 *
 *   <script type="module" src="https://HOST/assets/player.js"></script>
 *   <whep-player src="https://HOST/whep/ROOM"></whep-player>
 *
 * Or, with a <video> of your own:
 *
 *   import {Player} from 'https://HOST/assets/player.js';
 *   const player = new Player(document.querySelector('video'), 'https://HOST/whep/ROOM', {token: '…'});
 *   player.addEventListener('state', (event) => console.log(event.detail.text));
 *   player.start();
 *
 * It goes on by itself: an absent camera or a full room is asked again when the server says so (Retry-After), a lost
 * connection is first mended by an ICE restart (PATCH) and then made anew (POST, with back-off).
 * It does not wait for ICE gathering: the server is ICE-lite, announces its candidates in the answer, and learns ours from
 * our checks. TURN relays that the answer names are asked only when no direct path has answered after a second: by an ICE
 * restart, since a gathering that has begun takes no further servers.
 *
 * Rules: RFC 9725 (WHIP) and draft-ietf-wish-whep for the HTTP side, RFC 8840 for the restart's SDP fragment, RFC 9457 for
 * problem documents.
 */

/** Milliseconds. */
const REQUEST_TIMEOUT = 10_000;
const CONNECT_TIMEOUT = 8_000;
/** A direct path has so long before relays are asked too: more where the answer took long, since then checks do as well. */
const DIRECT_FIRST = 1_000;
const DIRECT_FIRST_SLOW = 3_000;
const DISCONNECT_GRACE = 1_000;
const RESTART_TIMEOUT = 6_000;
const STEADY_AFTER = 10_000;
const LONGEST_PAUSE = 15_000;
/** No packet for this long while connected: the camera is away. */
const AWAY_AFTER = 2_000;
const WATCH_EVERY = 500;

/**
 * The server said no. `state` says what to do about it: `denied` and `failed` are final, the others are tried again.
 * `retryAfter` is in milliseconds, or null.
 */
export class Refused extends Error {
  constructor(status, problem, retryAfter, base) {
    super(problem?.title ?? problem?.detail ?? `The server answered ${status}`);
    this.status = status;
    this.problem = problem;
    this.retryAfter = retryAfter;
    /** The kind of problem, and the address of the page that tells its cause and remedy; null when the server names none. */
    this.kind = /\/problems\/([\w-]+)$/.exec(problem?.type ?? '')?.[1] ?? null;
    this.help = this.kind && new URL(problem.type, base).href;
    this.state = status === 401 || status === 403 ? 'denied'
      : status === 409 ? 'waiting'
      : status === 503 || status === 429 ? 'full'
      : status >= 500 ? 'unreachable'
      : 'failed';
  }

  static async from(response) {
    const type = response.headers.get('content-type') ?? '';
    const problem = type.includes('json') ? await response.json().catch(() => null) : null;
    return new Refused(response.status, problem, retryAfter(response.headers.get('retry-after')), response.url);
  }
}

/**
 * One WHIP or WHEP session, kept alive until `stop()`. Subclasses say in `prepare(pc)` what is sent or received.
 *
 * Fires `state` with `detail: {state, text, retryAt, help}`; states: connecting, connected, waiting (no camera, or the room is
 * taken), full, unreachable, reconnecting, denied, failed, stopped. `retryAt` is a Date.now() value, or null; `help` the
 * address of a page about the refusal, or null.
 */
export class Connection extends EventTarget {
  #abort = null;
  #session = null;
  #iceServers = [];
  #wake = () => {};
  #sample = null;

  constructor(url, {token = null} = {}) {
    super();
    this.url = new URL(url, document.baseURI).href;
    this.token = token;
    this.state = 'idle';
    this.text = '';
    this.retryAt = null;
    this.help = null;
    this.pc = null;
    /** performance.now() values of the present session: post, answer, connected, firstFrame. */
    this.timing = {};
  }

  start() {
    if (this.#abort) return;
    this.#abort = new AbortController();
    const {signal} = this.#abort;
    addEventListener('online', () => this.#wake(), {signal});
    addEventListener('pagehide', () => this.#leave(), {signal});
    addEventListener('pageshow', (event) => event.persisted && this.#resume(), {signal});
    this.#run(signal);
  }

  /** Ends the session here and on the server. */
  stop() {
    if (!this.#abort) return;
    this.#abort.abort();
    this.#abort = null;
    this.#wake();
    this.#leave();
    this.report('stopped', 'Stopped');
  }

  /** The browser brings the page back as it was left; its connection was ended then. */
  #resume() {
    this.#abort.abort();
    this.#abort = null;
    this.start();
  }

  /** What the connection does now, in numbers; see `summarise`. Null while there is none. */
  async stats() {
    if (!this.pc || this.pc.connectionState === 'closed') return null;
    const report = await this.pc.getStats();
    const stats = summarise(report, this.#sample);
    this.#sample = stats.sample;
    stats.timing = {...this.timing};
    return stats;
  }

  report(state, text, {retryAt = null, help = null} = {}) {
    if (state === this.state && text === this.text && retryAt === this.retryAt) return;
    Object.assign(this, {state, text, retryAt, help});
    this.dispatchEvent(new CustomEvent('state', {detail: {state, text, retryAt, help}}));
  }

  /** Adds transceivers to a new connection. */
  prepare() {}

  /** Returns the offer to make of the browser's `sdp`. */
  adapt(sdp) {
    return sdp;
  }

  /** Called when media can flow; subclasses refine the state from here. */
  established() {
    this.report('connected', 'Connected');
  }

  /** Words for a refusal. */
  explain(error) {
    return error.message;
  }

  async #run(signal) {
    for (let failures = 0; !signal.aborted;) {
      let pause;
      try {
        this.report(this.state === 'reconnecting' ? 'reconnecting' : 'connecting', 'Connecting…');
        await this.#connect(signal);
        const since = performance.now();
        await this.#keep(signal);
        if (signal.aborted) return;
        failures = performance.now() - since > STEADY_AFTER ? 0 : failures + 1;
        pause = failures && backOff(failures);
        this.report('reconnecting', 'The connection was lost. Connecting again…', {retryAt: Date.now() + pause});
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        const refused = error instanceof Refused;
        pause = (refused && error.retryAfter) || backOff(failures);
        const state = refused ? error.state : 'unreachable';
        const final = state === 'denied' || state === 'failed';
        const text = refused ? this.explain(error)
          : error instanceof TypeError ? 'The server cannot be reached. Trying again…'
          : `${error.message}. Trying again…`;
        this.report(state, text, {retryAt: final ? null : Date.now() + pause, help: error.help});
        if (final) {
          this.#leave();
          this.#abort?.abort();
          this.#abort = null;
          return;
        }
      }
      this.#leave();
      await this.#sleep(pause, signal);
    }
  }

  async #connect(signal) {
    const pc = new RTCPeerConnection({bundlePolicy: 'max-bundle', iceServers: this.#iceServers});
    this.pc = pc;
    this.#sample = null;
    this.timing = {};
    this.prepare(pc);
    await this.#describe(pc);
    this.timing.post = performance.now();
    const response = await this.#request(this.url, 'POST', signal, {'Content-Type': 'application/sdp'}, pc.localDescription.sdp);
    if (response.status !== 201) throw await Refused.from(response);
    const location = response.headers.get('location');
    const session = location && new URL(location, response.url).href;
    if (signal.aborted) return this.#end(pc, session);
    this.#session = session;
    const answer = await response.text();
    if (signal.aborted) return;
    this.timing.answer = performance.now();
    const relays = this.#relays(response.headers.get('link'));
    await pc.setRemoteDescription({type: 'answer', sdp: answer});
    if (relays) await this.#relayed(signal);
    if (!await this.#until(() => isUp(pc), CONNECT_TIMEOUT, signal) && !(await this.#restart(signal))) {
      throw new Error('No media path to the server: its UDP port does not answer');
    }
    this.timing.connected ??= performance.now();
    this.established();
  }

  /** Resolves when the connection is lost and an ICE restart did not bring it back. */
  async #keep(signal) {
    const pc = this.pc;
    while (!signal.aborted) {
      await this.#until(() => !isUp(pc), Infinity, signal);
      if (signal.aborted) return;
      if (pc.connectionState === 'disconnected' && await this.#until(() => isUp(pc), DISCONNECT_GRACE, signal)) continue;
      if (pc.connectionState !== 'disconnected' && pc.connectionState !== 'failed') return;
      this.report('reconnecting', 'The connection was lost. Connecting again…');
      if (!(await this.#restart(signal))) return;
      this.established();
    }
  }

  /** Restarts ICE, with the relays that the answer named, when no direct path was found in good time. */
  async #relayed(signal) {
    const {pc, timing: {post, answer}} = this;
    const patience = Math.min(Math.max(DIRECT_FIRST, 2 * (answer - post)), DIRECT_FIRST_SLOW);
    await this.#until(() => hasPath(pc) || pc.connectionState === 'failed', patience, signal);
    if (!hasPath(pc)) await this.#renew(signal);
  }

  /** An ICE restart (RFC 9725 §4.3.3): true when media flows again. */
  async #restart(signal) {
    const {pc} = this;
    return await this.#renew(signal) && this.#until(() => isUp(pc), RESTART_TIMEOUT, signal);
  }

  /** Sets the offer as `adapt` makes it; browsers that refuse to have it changed keep their own. */
  async #describe(pc, options = {}) {
    const {type, sdp} = await pc.createOffer(options);
    const adapted = this.adapt(sdp);
    try {
      await pc.setLocalDescription({type, sdp: adapted});
    } catch (error) {
      if (adapted === sdp) throw error;
      await pc.setLocalDescription({type, sdp});
    }
  }

  /** New credentials and candidates on both sides; false when the server, or the browser, did not take them. */
  async #renew(signal) {
    const pc = this.pc;
    if (!this.#session) return false;
    try {
      await this.#describe(pc, {iceRestart: true});
      const headers = {'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': '*'};
      const response = await this.#request(this.#session, 'PATCH', signal, headers, fragment(pc.localDescription.sdp));
      if (response.status !== 200) return false;
      await pc.setRemoteDescription({type: 'answer', sdp: applyFragment(pc.remoteDescription.sdp, await response.text())});
      return true;
    } catch {
      return false;
    }
  }

  /**
   * TURN and STUN servers that the answer names are used from the next gathering on, in place of those of earlier answers,
   * whose credentials expire. True when there is a relay among them.
   */
  #relays(header) {
    const servers = iceServers(header);
    if (servers.length === 0 && this.#iceServers.length === 0) return false;
    try {
      this.pc.setConfiguration({...this.pc.getConfiguration(), iceServers: servers});
    } catch {
      // A server that this browser does not understand: the direct path remains.
      return false;
    }
    this.#iceServers = servers;
    return servers.some(({urls}) => /^turns?:/i.test(urls));
  }

  #leave() {
    this.#end(this.pc, this.#session);
    this.#session = null;
  }

  #end(pc, session) {
    pc?.close();
    if (session) fetch(session, {method: 'DELETE', keepalive: true, headers: this.#authorization()}).catch(() => {});
  }

  #authorization() {
    return this.token ? {Authorization: `Bearer ${this.token}`} : {};
  }

  async #request(url, method, signal, headers, body) {
    const request = new AbortController();
    const abort = () => request.abort();
    const timer = setTimeout(abort, REQUEST_TIMEOUT);
    signal.addEventListener('abort', abort);
    try {
      return await fetch(url, {method, body, signal: request.signal, headers: {...headers, ...this.#authorization()}});
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
    }
  }

  /** Waits for a state of the connection: false after `milliseconds`, or when stopped. */
  #until(reached, milliseconds, signal) {
    if (reached()) return Promise.resolve(true);
    const pc = this.pc;
    return new Promise((resolve) => {
      const local = new AbortController();
      const done = (value) => {
        local.abort();
        clearTimeout(timer);
        resolve(value);
      };
      const check = () => reached() && done(true);
      const timer = milliseconds === Infinity ? 0 : setTimeout(() => done(false), milliseconds);
      signal.addEventListener('abort', () => done(false), {signal: local.signal});
      pc.addEventListener('connectionstatechange', check, {signal: local.signal});
      pc.addEventListener('iceconnectionstatechange', check, {signal: local.signal});
      dtls(pc)?.addEventListener('statechange', check, {signal: local.signal});
    });
  }

  /** Waits, until the network is back or the page is shown again at the latest. */
  #sleep(milliseconds, signal) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
      if (signal.aborted) this.#wake();
    });
  }
}

/**
 * Returns the offer with `stereo=1` for Opus (RFC 7587 §7): without it Chromium and Safari decode one channel.
 */
export function askStereo(sdp) {
  const opus = [...sdp.matchAll(/^a=rtpmap:(\d+) opus\/48000\/2\r?$/gim)].map(([, number]) => number);
  return opus.reduce((text, number) => {
    const line = new RegExp(`^a=fmtp:${number} (?!.*\\bstereo=)[^\\r\\n]*`, 'm');
    if (line.test(text)) return text.replace(line, '$&;stereo=1');
    const described = new RegExp(`^a=fmtp:${number} `, 'm').test(text);
    const rtpmap = new RegExp(`^a=rtpmap:${number} [^\\r\\n]*`, 'm');
    return described ? text : text.replace(rtpmap, `$&\r\na=fmtp:${number} stereo=1`);
  }, sdp);
}

/**
 * Plays `/whep/{room}` in a <video>. Beyond the states of `Connection`: `playing` (frames arrive) and `away` (connected, but
 * the camera sends nothing; it goes on by itself).
 */
export class Player extends Connection {
  #received = -1;
  #receivedAt = 0;
  #watch = 0;

  /** `delay` is the smallest jitter buffer asked for, in milliseconds. */
  constructor(video, url, {token = null, delay = 0} = {}) {
    super(url, {token});
    this.video = video;
    this.delay = delay;
    this.hasAudio = false;
  }

  prepare(pc) {
    const stream = new MediaStream();
    this.hasAudio = false;
    for (const kind of ['video', 'audio']) {
      const {receiver} = pc.addTransceiver(kind, {direction: 'recvonly'});
      if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = this.delay;
      else if ('playoutDelayHint' in receiver) receiver.playoutDelayHint = this.delay / 1000;
    }
    pc.addEventListener('track', ({track}) => {
      stream.addTrack(track);
      if (track.kind === 'audio') this.hasAudio = true;
      if (stream.getTracks().length === 1) this.#show(stream);
      this.dispatchEvent(new Event('tracks'));
    });
  }

  adapt(sdp) {
    return askStereo(sdp);
  }

  established() {
    clearInterval(this.#watch);
    this.#received = -1;
    this.#receivedAt = performance.now();
    if (this.state !== 'playing') this.report('connected', 'Connected. Waiting for the first picture…');
    const {pc} = this;
    this.#watch = setInterval(() => this.#look(pc), WATCH_EVERY);
  }

  explain(error) {
    if (error.state === 'waiting') return 'Waiting for the camera. The picture starts by itself.';
    if (error.kind === 'subscribers-full') return 'This room is full. The picture starts when a viewer leaves.';
    if (error.kind === 'draining') return 'The server is being restarted. The picture comes back by itself.';
    if (error.state === 'full' || error.state === 'unreachable') return `${error.message}. Trying again…`;
    if (error.kind === 'unsupported-offer') return 'This browser does not play the kind of video that the camera sends. Use another browser, or let the camera send H264.';
    if (error.kind === 'token-invalid') return 'This access token is not valid, or has expired. Use a new one.';
    if (error.kind === 'room-not-granted') return 'This access token is for another room.';
    if (error.status === 401) return 'This room needs an access token.';
    if (error.status === 403) return 'This access token does not allow watching. Ask for one with the scope subscribe.';
    return error.message;
  }

  #show(stream) {
    const {video, pc} = this;
    video.playsInline = true;
    video.srcObject = stream;
    const play = () => video.play().catch((error) => {
      if (error.name === 'NotAllowedError' && !video.muted) {
        video.muted = true;
        return play();
      }
      if (error.name === 'NotAllowedError') this.dispatchEvent(new Event('blocked'));
    });
    play();
    const shown = () => {
      if (this.pc !== pc || this.timing.firstFrame) return;
      this.timing.firstFrame = performance.now();
      this.report('playing', 'Live');
      this.dispatchEvent(new Event('firstframe'));
    };
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(shown);
    else video.addEventListener('loadeddata', shown, {once: true});
  }

  /** Packets tell whether the camera is there: the transport stays up without it. */
  async #look(pc) {
    if (pc !== this.pc || pc.connectionState === 'closed') return clearInterval(this.#watch);
    let received = 0;
    for (const entry of (await pc.getStats()).values()) {
      if (entry.type === 'inbound-rtp') received += entry.packetsReceived ?? 0;
    }
    if (pc !== this.pc || !isUp(pc)) return;
    const now = performance.now();
    if (received > this.#received) {
      const first = this.#received <= 0;
      this.#received = received;
      this.#receivedAt = now;
      if (this.state === 'away' || (this.state === 'connected' && received > 0 && !first)) this.report('playing', 'Live');
    } else if (now - this.#receivedAt > AWAY_AFTER) {
      this.report('away', 'Waiting for the camera. The picture goes on by itself.');
    }
  }
}

/**
 * RTCStatsReport in short. Bitrates are bits per second since `previous` (a `sample` of an earlier summary), times are
 * milliseconds, `lost` is a share from 0 to 1 of all packets so far.
 *
 * {transport: {protocol, local, remote, localType, remoteType, relay, rtt, dtls, srtp, why},
 *  video, audio: {direction, codec, parameters, width, height, fps, bitrate, packets, lost, jitter, frames, dropped, freezes,
 *  nacks, plis, codecName, limited}, sample}
 */
export function summarise(report, previous) {
  const entries = [...report.values()];
  const sample = {at: performance.now(), bytes: {}};
  const stats = {transport: null, video: null, audio: null, sample};
  const transport = entries.find((entry) => entry.type === 'transport');
  const pair = report.get(transport?.selectedCandidatePairId)
    ?? entries.find((entry) => entry.type === 'candidate-pair' && entry.nominated && entry.state === 'succeeded');
  if (pair) {
    const local = report.get(pair.localCandidateId) ?? {};
    const remote = report.get(pair.remoteCandidateId) ?? {};
    stats.transport = {
      protocol: (local.protocol ?? remote.protocol ?? '').toUpperCase(),
      local: address(local),
      remote: address(remote),
      localType: local.candidateType,
      remoteType: remote.candidateType,
      relay: local.candidateType === 'relay' ? local.relayProtocol ?? 'udp' : null,
      rtt: milliseconds(pair.currentRoundTripTime),
      dtls: transport?.dtlsCipher ?? null,
      srtp: transport?.srtpCipher ?? null,
      why: why(local, remote),
    };
  }
  for (const entry of entries) {
    const inbound = entry.type === 'inbound-rtp';
    if ((!inbound && entry.type !== 'outbound-rtp') || !['audio', 'video'].includes(entry.kind)) continue;
    const far = report.get(entry.remoteId);
    const codec = report.get(entry.codecId);
    const total = inbound ? entry.bytesReceived : entry.bytesSent;
    const packets = inbound ? entry.packetsReceived : entry.packetsSent;
    sample.bytes[entry.kind] = total;
    const before = previous?.bytes[entry.kind];
    const seconds = previous && (sample.at - previous.at) / 1000;
    const lost = inbound ? Math.max(0, entry.packetsLost ?? 0) : Math.max(0, far?.packetsLost ?? 0);
    stats[entry.kind] = {
      direction: inbound ? 'in' : 'out',
      codec: codec?.mimeType?.split('/')[1] ?? null,
      parameters: codec?.sdpFmtpLine ?? null,
      width: entry.frameWidth ?? null,
      height: entry.frameHeight ?? null,
      fps: entry.framesPerSecond ?? null,
      bitrate: before !== undefined && seconds > 0 ? Math.max(0, (total - before) * 8 / seconds) : null,
      packets,
      lost: packets ? lost / (packets + (inbound ? lost : 0)) : 0,
      jitter: milliseconds(inbound ? entry.jitter : far?.jitter),
      frames: inbound ? entry.framesDecoded : entry.framesEncoded,
      dropped: entry.framesDropped ?? null,
      freezes: entry.freezeCount ?? null,
      nacks: entry.nackCount ?? null,
      plis: entry.pliCount ?? null,
      codecName: entry.decoderImplementation ?? entry.encoderImplementation ?? null,
      limited: entry.qualityLimitationReason ?? null,
    };
    if (stats.transport && stats.transport.rtt === null) stats.transport.rtt = milliseconds(far?.roundTripTime);
  }
  return stats;
}

/** Seconds or a date, as milliseconds from now; null when absent or unreadable. */
function retryAfter(value) {
  if (!value) return null;
  const delay = /^\d+$/.test(value.trim()) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(delay) ? Math.min(Math.max(delay, 250), 60_000) : null;
}

/** Half fixed, half random, so that viewers of a restarted server do not come back in one moment. */
function backOff(failures) {
  const longest = Math.min(LONGEST_PAUSE, 500 * 2 ** (failures - 1));
  return longest / 2 + Math.random() * longest / 2;
}

function dtls(pc) {
  const transceiver = pc.getTransceivers()[0];
  return transceiver?.receiver.transport ?? transceiver?.sender.transport ?? null;
}

/** A close_notify of the server shows in the DTLS transport alone. */
function isUp(pc) {
  return pc.connectionState === 'connected' && dtls(pc)?.state !== 'closed';
}

/** ICE has a path, whether or not DTLS is done on it. */
function hasPath(pc) {
  return pc.iceConnectionState === 'connected' || pc.iceConnectionState === 'completed';
}

/** The part of an offer that a restart sends: the new credentials and what was gathered so far. */
function fragment(sdp) {
  const lines = sdp.split(/\r?\n/);
  const wanted = /^a=(mid|ice-ufrag|ice-pwd|candidate|end-of-candidates)/;
  const first = lines.findIndex((line) => line.startsWith('m='));
  const next = lines.findIndex((line, index) => index > first && line.startsWith('m='));
  const section = lines.slice(first, next < 0 ? undefined : next);
  const session = lines.slice(0, first).filter((line) => /^a=(group|ice-options)/.test(line));
  return [...session, section[0], ...section.filter((line) => wanted.test(line)), ''].join('\r\n');
}

/** The answer with the credentials and candidates of the server's fragment. */
function applyFragment(sdp, answer) {
  const find = (name) => answer.match(new RegExp(`^a=${name}:(.*)$`, 'm'))?.[1].trim();
  const ufrag = find('ice-ufrag');
  const pwd = find('ice-pwd');
  if (!ufrag || !pwd) throw new Error('The restart answer has no ICE credentials');
  const candidates = answer.match(/^a=candidate:.*$/gm)?.map((line) => line.trim()) ?? [];
  const lines = [];
  let placed = false;
  for (const line of sdp.split(/\r?\n/)) {
    if (line.startsWith('m=')) placed = false;
    if (line.startsWith('a=ice-ufrag:')) lines.push(`a=ice-ufrag:${ufrag}`);
    else if (line.startsWith('a=ice-pwd:')) lines.push(`a=ice-pwd:${pwd}`);
    else if (line.startsWith('a=candidate:') && candidates.length) {
      if (!placed) lines.push(...candidates);
      placed = true;
    } else lines.push(line);
  }
  return lines.join('\r\n');
}

/** `Link: <turn:host:3478?transport=udp>; rel="ice-server"; username="u"; credential="c"` */
function iceServers(header) {
  const servers = [];
  for (const [, url, rest] of (header ?? '').matchAll(/<([^>]*)>((?:\s*;\s*[\w-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^",;\s]+))*)/g)) {
    const fields = {};
    for (const [, name, quoted, plain] of rest.matchAll(/([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",;\s]+))/g)) {
      fields[name.toLowerCase()] = quoted?.replace(/\\(.)/g, '$1') ?? plain;
    }
    if (fields.rel !== 'ice-server') continue;
    servers.push(fields.username ? {urls: url, username: fields.username, credential: fields.credential} : {urls: url});
  }
  return servers;
}

function address(candidate) {
  const host = candidate.address ?? candidate.ip;
  if (!candidate.port) return null;
  return `${host ? (host.includes(':') ? `[${host}]` : host) : 'hidden'}:${candidate.port}`;
}

function why(local, remote) {
  if (local.candidateType === 'relay') return `Through a TURN relay over ${(local.relayProtocol ?? 'udp').toUpperCase()}: no direct path answered.`;
  if (local.protocol === 'tcp') return 'TCP straight to the server: UDP did not get through.';
  if (remote.candidateType === 'relay') return 'UDP to a relay of the server: its own address did not answer.';
  return 'UDP straight to the server: the quickest path, and it answered.';
}

function milliseconds(seconds) {
  return seconds === undefined ? null : seconds * 1000;
}

const STYLE = `
:host { display: block; position: relative; aspect-ratio: 16 / 9; background: #05070a; color: #fff; overflow: hidden;
  font: 16px/1.4 system-ui, sans-serif; }
:host([hidden]) { display: none; }
video { display: block; width: 100%; height: 100%; object-fit: contain; }
button { display: inline-flex; align-items: center; justify-content: center; gap: .5em; min-width: 40px; min-height: 40px; padding: 0 10px;
  border: 0; border-radius: 8px; background: #10161dcc; color: #fff; font: inherit; font-weight: 600; cursor: pointer; }
button:hover { background: #2b3742; }
:focus-visible { outline: 3px solid #6cb6ff; outline-offset: 2px; }
svg { width: 22px; height: 22px; fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
[hidden] { display: none !important; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.bar { position: absolute; inset: auto 0 0; display: flex; flex-wrap: wrap; align-items: center; gap: 8px; padding: 10px;
  background: linear-gradient(transparent, #05070ab3); transition: opacity .2s; pointer-events: none; }
.bar > * { pointer-events: auto; }
.note:not([hidden]) ~ .bar { background: none; }
:host(.quiet) .bar { opacity: 0; }
:host(.quiet) .bar:focus-within { opacity: 1; }
.gap { flex: 1; }
input { width: 96px; height: 24px; accent-color: #fff; }
.live { position: absolute; top: 12px; left: 12px; padding: 2px 10px 2px 8px; border-radius: 6px; background: #b3141e; font-size: 14px;
  font-weight: 700; letter-spacing: .02em; }
.live::before { content: ''; display: inline-block; width: 8px; height: 8px; margin-right: 6px; border-radius: 50%; background: #fff; }
.note { position: absolute; inset: 0; display: grid; place-content: center; justify-items: center; gap: 10px; padding: 8px 16px;
  text-align: center; background: #05070acc; }
.live.paused { background: #10161dcc; }
.live.paused::before { border-radius: 0; }
.note p { margin: 0; max-width: 34em; text-wrap: balance; }
.note button { padding: 0 16px; border: 1px solid #93a1ae; }
.note a { padding: 4px; color: #9ccaff; text-underline-offset: 3px; }
.do { display: flex; flex-wrap: wrap; align-items: center; justify-content: center; gap: 6px 14px; }
.spin { width: 28px; height: 28px; border: 3px solid #ffffff40; border-top-color: #fff; border-radius: 50%; animation: turn 1s linear infinite; }
.still { border-color: #ffffff66; animation: none; }
.sound { position: absolute; inset: auto 0 64px; margin: auto; width: max-content; max-width: calc(100% - 32px); background: #fff; color: #10161d;
  box-shadow: 0 2px 12px #0008; }
.sound:hover { background: #dfe7ee; }
.away { background: #05070a99; }
.away p { padding: 4px 12px; border-radius: 8px; background: #05070acc; }
@keyframes turn { to { transform: rotate(1turn); } }
@media (prefers-reduced-motion: reduce) { .spin { animation: none; } .bar { transition: none; } }
@media (max-width: 30em) { .sound { inset-block-end: 60px; } input { display: none; } .note { font-size: 15px; } }
`;

const ICON = {
  pause: 'M8 5v14M16 5v14',
  play: 'M7 4l13 8-13 8z',
  sound: 'M4 9v6h4l5 4V5L8 9zM16.5 8.5a5 5 0 0 1 0 7M19 6a9 9 0 0 1 0 12',
  muted: 'M4 9v6h4l5 4V5L8 9zM17 9.5l5 5M22 9.5l-5 5',
  whole: 'M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5',
};

/**
 * `<whep-player src="/whep/ROOM" token="…">`: a Player with its own picture, controls and messages. `player` is the Player.
 * It starts muted, since browsers allow only that without a click, and offers the sound by a button.
 */
class WhepPlayer extends HTMLElement {
  static observedAttributes = ['src', 'token'];
  #parts = null;
  #quiet = 0;
  #countdown = 0;
  #pending = false;
  #blocked = false;
  player = null;

  connectedCallback() {
    if (!this.#parts) this.#build();
    this.#countdown = setInterval(() => this.#count(), 1000);
    this.#reload();
  }

  disconnectedCallback() {
    this.player?.stop();
    this.player = null;
    clearInterval(this.#countdown);
    clearTimeout(this.#quiet);
  }

  attributeChangedCallback() {
    if (this.isConnected && this.#parts) this.#reload();
  }

  get video() {
    return this.#parts?.video ?? null;
  }

  /** Once for several attributes set in a row. */
  #reload() {
    if (this.#pending) return;
    this.#pending = true;
    queueMicrotask(() => {
      this.#pending = false;
      this.player?.stop();
      this.player = null;
      const source = this.getAttribute('src');
      if (!source || !this.isConnected) return;
      const player = new Player(this.#parts.video, source, {token: this.getAttribute('token')});
      this.player = player;
      this.#blocked = false;
      player.addEventListener('blocked', () => (this.#blocked = true));
      for (const type of ['state', 'tracks', 'blocked', 'firstframe']) {
        player.addEventListener(type, () => {
          if (this.player !== player) return;
          this.#render();
          this.dispatchEvent(new CustomEvent(type, {detail: {state: player.state, text: player.text, retryAt: player.retryAt, help: player.help}}));
        });
      }
      player.start();
      this.#render();
    });
  }

  #build() {
    const root = this.attachShadow({mode: 'open'});
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    const video = make('video', {autoplay: true, muted: true, playsInline: true});
    video.setAttribute('aria-label', this.getAttribute('label') ?? 'Live picture');
    const live = make('span', {className: 'live', textContent: 'Live', hidden: true});
    const status = make('div', {className: 'unseen', role: 'status'});
    const text = make('p', {ariaHidden: 'true'});
    const rest = make('p');
    const spin = make('div', {className: 'spin'});
    const again = make('button', {type: 'button', textContent: 'Try now', hidden: true});
    const go = make('button', {type: 'button', hidden: true}, icon('play'), 'Show the picture');
    const help = make('a', {textContent: 'What to do', target: '_blank', rel: 'noopener', hidden: true});
    const note = make('div', {className: 'note'}, spin, text, make('div', {className: 'do'}, again, rest, go), help);
    const sound = make('button', {type: 'button', className: 'sound', hidden: true}, icon('muted'), 'Turn the sound on');
    const pause = make('button', {type: 'button'});
    const mute = make('button', {type: 'button'});
    const volume = make('input', {type: 'range', min: 0, max: 1, step: 0.05, value: 1, ariaLabel: 'Volume'});
    const whole = make('button', {type: 'button', ariaLabel: 'Full screen', title: 'Full screen', hidden: !document.fullscreenEnabled}, icon('whole'));
    const bar = make('div', {className: 'bar'}, pause, mute, volume, make('span', {className: 'gap'}), whole);
    root.append(status, video, live, note, sound, bar);
    this.#parts = {video, status, live, note, text, rest, spin, again, go, help, sound, pause, mute, volume, bar};

    const unmute = () => {
      video.muted = false;
      if (video.volume === 0) video.volume = 1;
      video.play().catch(() => {});
    };
    sound.addEventListener('click', () => {
      unmute();
      mute.focus();
    });
    mute.addEventListener('click', () => (video.muted ? unmute() : (video.muted = true)));
    pause.addEventListener('click', () => (video.paused ? video.play().catch(() => {}) : video.pause()));
    volume.addEventListener('input', () => {
      video.volume = Number(volume.value);
      video.muted = video.volume === 0;
    });
    whole.addEventListener('click', () => (document.fullscreenElement ? document.exitFullscreen() : this.requestFullscreen()));
    again.addEventListener('click', () => this.#reload());
    go.addEventListener('click', () => video.play().catch(() => {}));
    video.addEventListener('play', () => (this.#blocked = false));
    for (const type of ['play', 'pause', 'volumechange']) video.addEventListener(type, () => this.#render());
    for (const type of ['pointermove', 'pointerdown', 'focusin', 'keydown']) this.addEventListener(type, () => this.#stir());
    this.#render();
  }

  /** The controls fade when nothing is touched while the picture runs. */
  #stir() {
    this.classList.remove('quiet');
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => {
      if (this.player?.state === 'playing' && !this.#parts.video.paused) this.classList.add('quiet');
    }, 3000);
  }

  #count() {
    const left = this.player?.retryAt ? Math.ceil((this.player.retryAt - Date.now()) / 1000) : 0;
    this.#parts.rest.textContent = left > 1 ? `Next try in ${left} s` : '';
    this.#parts.rest.hidden = left <= 1;
  }

  #render() {
    const {video, status, live, note, text, spin, again, go, help, sound, pause, mute, volume} = this.#parts;
    const state = this.player?.state ?? 'idle';
    const playing = state === 'playing';
    const final = state === 'denied' || state === 'failed' || state === 'stopped';
    const blocked = this.#blocked && video.paused;
    live.hidden = !playing || blocked;
    note.hidden = playing && !blocked;
    note.classList.toggle('away', state === 'away' || state === 'reconnecting');
    live.textContent = video.paused ? 'Paused' : video.srcObject?.getVideoTracks().length === 0 ? 'Live, sound only' : 'Live';
    live.classList.toggle('paused', video.paused);
    const words = blocked ? 'This browser does not start the picture by itself.' : this.player?.text ?? '';
    if (text.textContent !== words) text.textContent = status.textContent = words;
    spin.hidden = final || blocked;
    spin.classList.toggle('still', state === 'waiting' || state === 'away');
    again.hidden = blocked || (!final && !this.player?.retryAt);
    go.hidden = !blocked;
    help.hidden = blocked || state === 'waiting' || !this.player?.help;
    if (this.player?.help) help.href = this.player.help;
    const audible = this.player?.hasAudio ?? false;
    sound.hidden = !(playing && audible && video.muted && !video.paused);
    mute.hidden = !audible;
    volume.hidden = !audible;
    volume.value = video.muted ? 0 : video.volume;
    label(mute, video.muted ? 'muted' : 'sound', video.muted ? 'Turn the sound on' : 'Mute');
    label(pause, video.paused ? 'play' : 'pause', video.paused ? 'Play' : 'Pause');
    pause.hidden = !playing;
    this.#count();
    if (!playing) this.classList.remove('quiet');
    else if (!this.classList.contains('quiet')) this.#stir();
  }
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', ICON[name]);
  svg.append(path);
  return svg;
}

function label(button, name, text) {
  if (button.ariaLabel === text) return;
  button.ariaLabel = text;
  button.title = text;
  button.replaceChildren(icon(name));
}

if (!customElements.get('whep-player')) customElements.define('whep-player', WhepPlayer);
