/** The publish page: one button; the rest is there for who looks for it. */
import {CODECS, Publisher, sendableCodecs} from './publisher.js';
import {announce, askToken, h, link, pageUrl, roomOfPage, setText, tabIdentity, token, tokenButton} from './common.js';
import {statistics} from './stats.js';

const NAMES = {automatic: 'Automatic', h264: 'H.264', vp8: 'VP8', vp9: 'VP9', av1: 'AV1'};
const LIVE = new Set(['connected']);
const OVER = new Set(['idle', 'stopped', 'denied', 'failed']);

const $ = (id) => document.getElementById(id);
const room = roomOfPage();
const name = encodeURIComponent(room);
const numbers = statistics($('stats'));
let publisher = null;
let stream = null;
let starting = false;
let awake = null;
let muted = false;

document.title = `Publish to ${room}`;
setText($('room'), room);
$('watch-link').href = pageUrl(`/watch/${name}`);
tokenButton($('token'));
links();
const able = typeof RTCPeerConnection === 'function' ? sendableCodecs() : Object.keys(CODECS);
$('codec').append(...able.map((codec) => h('option', {value: codec}, NAMES[codec])));
if (!navigator.mediaDevices) {
  trouble('This browser gives its camera to a page only over HTTPS, or from localhost. Open this page over HTTPS, or send from another program by the lines below.');
  $('start').disabled = true;
} else {
  devices();
  navigator.mediaDevices.addEventListener?.('devicechange', devices);
  if (!navigator.mediaDevices.getDisplayMedia) $('source-screen').disabled = true;
}

$('start').addEventListener('click', () => (publisher ? stop('Stopped') : start()));
$('mute').addEventListener('click', () => {
  muted = !muted;
  hush();
  announce(muted ? 'The microphone is muted' : 'The microphone is on');
});
$('settings').addEventListener('submit', (event) => event.preventDefault());
$('settings').addEventListener('change', ({target}) => changed(target));
document.addEventListener('visibilitychange', stayAwake);
addEventListener('token', () => publisher && (publisher.token = token() ?? tabIdentity()));
setInterval(async () => {
  rest();
  numbers.show(publisher ? await publisher.stats() : null);
}, 1000);

async function start() {
  if (starting) return;
  starting = true;
  muted = false;
  trouble('');
  setText($('status'), 'Asking for the camera…');
  try {
    stream = await capture();
  } catch (error) {
    setText($('status'), 'Not publishing');
    trouble(captureTrouble(error));
    return;
  } finally {
    starting = false;
  }
  show();
  devices();
  publisher = new Publisher(pageUrl(`/whip/${name}`), {token: token() ?? tabIdentity(), stream, codec: $('codec').value, bitrate: Number($('bitrate').value), prefer: $('prefer').value});
  publisher.addEventListener('state', render);
  publisher.start();
  render();
  stayAwake();
}

function stop(text) {
  publisher?.removeEventListener('state', render);
  publisher?.stop();
  publisher = null;
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  $('preview').srcObject = null;
  render();
  setText($('status'), text);
  stayAwake();
}

function render() {
  const state = publisher?.state ?? 'idle';
  const live = LIVE.has(state);
  setText($('start'), publisher ? 'Stop' : 'Start');
  $('start').classList.toggle('danger', Boolean(publisher));
  $('start').classList.toggle('primary', !publisher);
  $('live').hidden = !publisher;
  $('live').classList.toggle('live', live);
  setText($('live'), live ? 'Live' : 'Not live');
  $('mute').hidden = !stream?.getAudioTracks().length;
  $('stage-note').hidden = Boolean(stream?.getVideoTracks().length);
  setText($('stage-note'), stream ? 'Sound only' : 'Your picture appears here. Nothing is sent before you press Start.');
  document.title = live ? `● ${room}` : `Publish to ${room}`;
  $('status').classList.toggle('on', live);
  $('status').classList.toggle('warn-text', Boolean(publisher?.retryAt));
  hush();
  rest();
  if (!publisher) return;
  setText($('status'), publisher.text);
  if (!OVER.has(state)) return;
  const {text, help} = publisher;
  stop('Not publishing');
  trouble(text, help);
  if (state === 'denied') askToken(text);
}

/** When it is tried again, and the page that tells more. */
function rest() {
  const left = publisher?.retryAt ? Math.ceil((publisher.retryAt - Date.now()) / 1000) : 0;
  setText($('status-rest'), left > 1 ? `Next try in ${left} s.` : '');
  $('status-help').hidden = !publisher?.help;
  if (publisher?.help) $('status-help').href = publisher.help;
  $('status-more').hidden = !publisher?.help && left <= 1;
}

/** Silence is sent while muted, so the session and the recording go on. */
function hush() {
  for (const track of stream?.getAudioTracks() ?? []) track.enabled = !muted;
  setText($('mute'), muted ? 'Unmute' : 'Mute');
  $('mute').classList.toggle('on', muted);
  $('mute').setAttribute('aria-label', muted ? 'Unmute the microphone' : 'Mute the microphone');
}

/** Camera, screen or sound, as chosen. */
async function capture() {
  const source = new FormData($('settings')).get('source');
  const [width, height] = $('size').value.split('x').map(Number);
  const frameRate = {ideal: Number($('rate').value)};
  const clean = $('clean').checked;
  const microphone = $('microphone').value;
  const audio = microphone !== 'none' && {...(microphone && {deviceId: {exact: microphone}}), echoCancellation: clean, noiseSuppression: clean, autoGainControl: clean};
  let captured;
  if (source === 'screen') {
    captured = await navigator.mediaDevices.getDisplayMedia({video: {width: {max: width}, height: {max: height}, frameRate}, audio: true});
    if (audio && captured.getAudioTracks().length === 0) {
      const voice = await navigator.mediaDevices.getUserMedia({audio}).catch(() => null);
      for (const track of voice?.getTracks() ?? []) captured.addTrack(track);
    }
  } else {
    const camera = $('camera').value;
    const video = source === 'camera' && {...(camera && {deviceId: {exact: camera}}), width: {ideal: width}, height: {ideal: height}, frameRate};
    captured = await withoutMissing({video, audio});
  }
  for (const track of captured.getVideoTracks()) {
    track.contentHint = source === 'screen' ? 'detail' : 'motion';
    track.addEventListener('ended', () => publisher && stream?.getTracks().includes(track) && stop(source === 'screen' ? 'The screen is no longer shared' : 'The camera was disconnected'));
  }
  return captured;
}

/** A computer without a microphone still sends its picture. */
async function withoutMissing(wanted) {
  try {
    return await navigator.mediaDevices.getUserMedia(wanted);
  } catch (error) {
    if (error.name !== 'NotFoundError' || !wanted.video || !wanted.audio) throw error;
    announce('No microphone was found: sending the picture alone');
    return navigator.mediaDevices.getUserMedia({video: wanted.video});
  }
}

function captureTrouble(error) {
  switch (error.name) {
    case 'NotAllowedError': return 'The browser was not allowed to use the camera or screen. Allow it in the address bar, then press Start again.';
    case 'NotFoundError': return 'No camera or microphone was found. Plug one in, share the screen, or send from another program.';
    case 'NotReadableError': return 'The camera is used by another program. Close that, then press Start again.';
    case 'OverconstrainedError': return 'The chosen device is gone or cannot do that. Choose another one under Picture or Advanced.';
    case 'TypeError': return 'There is neither picture nor sound to send. Choose one.';
    default: return `${error.name}: ${error.message}`;
  }
}

/** A change while live: the bitrate at once, another device or source by another track. */
async function changed(target) {
  $('camera-field').hidden = new FormData($('settings')).get('source') !== 'camera';
  if (!publisher) return;
  if (target.id === 'bitrate') return publisher.limit(Number(target.value));
  if (target.name !== 'source' && !['camera', 'microphone', 'clean'].includes(target.id)) return;
  let fresh;
  try {
    fresh = await capture();
  } catch (error) {
    return trouble(captureTrouble(error));
  }
  trouble('');
  const old = stream;
  stream = fresh;
  hush();
  const kinds = (each) => each.getTracks().map(({kind}) => kind).sort().join();
  if (kinds(old) === kinds(fresh)) {
    publisher.stream = new MediaStream(old.getTracks());
    for (const track of fresh.getTracks()) await publisher.replace(track);
  } else {
    // Other kinds of media need another session; it takes over from the old one.
    publisher.removeEventListener('state', render);
    publisher.stop();
    publisher = new Publisher(publisher.url, {token: token() ?? tabIdentity(), stream, codec: $('codec').value, bitrate: Number($('bitrate').value), prefer: $('prefer').value});
    publisher.addEventListener('state', render);
    publisher.start();
  }
  for (const track of old.getTracks()) track.stop();
  show();
  render();
}

function show() {
  const preview = $('preview');
  preview.srcObject = stream;
  preview.classList.toggle('mirror', new FormData($('settings')).get('source') === 'camera');
  preview.play().catch(() => {});
}

/** Names are known only after the first permission. */
async function devices() {
  const found = await navigator.mediaDevices.enumerateDevices().catch(() => []);
  for (const [select, kind] of [[$('camera'), 'videoinput'], [$('microphone'), 'audioinput']]) {
    const chosen = select.value;
    const keep = [...select.options].filter(({value}) => value === '' || value === 'none');
    const named = found.filter((device) => device.kind === kind && device.deviceId && device.deviceId !== 'default');
    select.replaceChildren(...keep, ...named.map((device, index) => h('option', {value: device.deviceId}, device.label || `${kind === 'videoinput' ? 'Camera' : 'Microphone'} ${index + 1}`)));
    if ([...select.options].some(({value}) => value === chosen)) select.value = chosen;
  }
}

/** The screen of a phone stays on while it publishes. */
async function stayAwake() {
  if (!publisher) {
    awake?.release().catch(() => {});
    awake = null;
  } else if (document.visibilityState === 'visible' && (!awake || awake.released)) {
    awake = await navigator.wakeLock?.request('screen').catch(() => null) ?? null;
  }
}

function trouble(text, help = null) {
  $('trouble').replaceChildren(text, ...(help ? [' ', h('a', {href: help, target: '_blank', rel: 'noopener'}, 'What to do')] : []));
  $('trouble').hidden = !text;
}

function links() {
  const whip = pageUrl(`/whip/${name}`);
  const needsToken = () => Boolean(token());
  const ffmpeg = link('ffmpeg 8 or newer', '', {note: 'Replace input.mp4 by any file or device.'});
  const gstreamer = link('GStreamer', '', {note: 'whipclientsink is in gst-plugins-rs.'});
  const obs = link('OBS', whip, {note: 'Settings, Stream: service WHIP, this server. Bearer token: your token, if the server asks for one. Keyframe interval: 2 s; B-frames: 0.'});
  const render = () => {
    ffmpeg.set('ffmpeg -re -stream_loop -1 -i input.mp4 -c:v libx264 -preset veryfast -tune zerolatency -bf 0 -g 60 -pix_fmt yuv420p '
      + `-c:a libopus -ar 48000 -ac 2 -b:a 64k ${needsToken() ? '-authorization "$TOKEN" ' : ''}-f whip "${whip}"`);
    // One video codec: whipclientsink tries each that it may offer before it sends the offer, and AV1 alone takes seconds.
    gstreamer.set(`gst-launch-1.0 whipclientsink name=out video-caps=video/x-h264 signaller::whip-endpoint="${whip}" ${needsToken() ? 'signaller::auth-token="$TOKEN" ' : ''}`
      + 'videotestsrc is-live=true ! video/x-raw,width=1280,height=720,framerate=30/1 ! queue ! out. audiotestsrc is-live=true ! audioconvert ! queue ! out.');
  };
  render();
  addEventListener('token', render);
  $('links').append(link('Watch page', pageUrl(`/watch/${name}`)), link('WHIP URL', whip, {note: 'For cameras and programs that speak WHIP.'}));
  $('programs').append(obs, ffmpeg, gstreamer);
}
