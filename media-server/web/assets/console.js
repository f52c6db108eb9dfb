/** The console: what is live, what was, what is recorded, what happens. */
import * as api from './api.js';
import {Recordings} from './recordings.js';
import {RequestError, announce, askToken, bits, clock, config, confirmed, copyButton, count, duration, h, list, pageUrl, percent, setText, setTime, sparkline, time,
  token, tokenButton, zonePicker} from './common.js';

const REFRESH = 2000;
const RECORDINGS_EVERY = 5;
const EVENTS_KEPT = 100;
const ERROR_STAYS = 10_000;
const REASONS = {
  ended: 'ended by hand',
  idle: 'the camera stayed away',
  drain: 'the server was shut down',
  'never-started': 'no camera came',
  'server-restart': 'the server was restarted',
};
const EVENTS = {
  'stream:started': 'Stream started',
  'stream:ended': 'Stream ended',
  'publisher:joined': 'Camera joined',
  'publisher:left': 'Camera left',
  'viewers:changed': 'Viewers',
  'trouble:started': 'Trouble',
  'trouble:ended': 'Trouble is over',
};

const $ = (id) => document.getElementById(id);
const recordings = new Recordings(Object.fromEntries(['timeline', 'list', 'empty', 'more', 'goto', 'room', 'moment', 'player', 'video', 'title', 'state', 'at',
  'gaps', 'links', 'close', 'note'].map((name) => [name, $(`recording-${name}`)])), failed);
let past = [];
let rounds = 0;
let busy = false;
let again = false;
let answering = true;
let locked = false;
/** What is wrong for good, and until when the error of an action stays. */
let standing = null;
let staysUntil = 0;

zonePicker($('zone'));
tokenButton($('token'));
newRoom();
config.then((found) => {
  if (found) setText($('version'), `Version ${found.version}. ${found.auth === 'open' ? 'Open: whoever reaches this address may publish, watch and end streams.' : 'Access by token.'}`);
  $('metrics').hidden = found?.metrics === false;
  if (found?.recording === false) setText($('recording-empty'), 'This server does not record: its StreamSession has no recording.');
  if (found?.media === false) {
    standing = new Error('This process carries no media: it only keeps the registry (MEDIA_MODE).');
    problem(standing);
  }
});

// What is live: by events at once, and every two seconds for the numbers.

async function refresh() {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  try {
    const all = await api.streams({limit: 100});
    if (rounds % RECORDINGS_EVERY === 0) {
      await recordings.refresh().catch((error) => {
        if (!(error instanceof RequestError && (error.status === 404 || error.status === 501))) throw error;
        setText($('recording-empty'), 'This server does not record.');
        $('recording-empty').hidden = false;
      });
    }
    rounds += 1;
    show(all);
    recordings.openLink();
    problem(null);
  } catch (error) {
    problem(error);
  }
  busy = false;
  if (again) {
    again = false;
    rounds = 0;
    refresh();
  }
}

function show(all) {
  const live = all.filter(({state}) => state !== 'ended');
  if (past.length === 0) $('past-more').hidden = all.length < 100;
  past = merge(all.filter(({state}) => state === 'ended'), past);
  const viewers = live.reduce((sum, each) => sum + each.viewers, 0);
  const rate = live.reduce((sum, each) => sum + (each.publisher.bitrate ?? 0), 0);
  setText($('sum-live'), String(live.filter(({publishing}) => publishing).length));
  setText($('sum-viewers'), String(viewers));
  setText($('sum-rate'), bits(rate));
  $('live-empty').hidden = live.length > 0;
  $('past-empty').hidden = past.length > 0;
  list($('live'), live, ({id}) => id, card);
  list($('past'), past, ({id}) => id, row);
}

function merge(newest, known) {
  const ids = new Set(newest.map(({id}) => id));
  return [...newest, ...known.filter(({id}) => !ids.has(id))].sort((a, b) => (b.startedAt ?? 0) - (a.startedAt ?? 0));
}

function card(first) {
  const badge = h('span', {class: 'badge'});
  const name = h('p', {class: 'hint'});
  const troubles = h('div', {class: 'troubles', role: 'status'});
  const chart = sparkline();
  const facts = {since: time(null), length: h('span', {class: 'number length'}), viewers: h('span', {class: 'number'}), rate: h('span', {class: 'number'}),
    publisher: h('span', {class: 'cut'}), recording: h('span', {}),
    codecs: h('span', {}), lost: h('span', {class: 'number'}), out: h('span', {class: 'number'})};
  const watch = pageUrl(`/watch/${encodeURIComponent(first.room)}`);
  const publish = pageUrl(`/publish/${encodeURIComponent(first.room)}`);
  const stop = h('button', {type: 'button', class: 'danger small', 'aria-label': `End the stream in ${first.room}`, onclick: () => endStream(element.stream)}, 'End…');
  const fact = (label, ...value) => h('div', {}, h('dt', {}, label), h('dd', {}, ...value));
  const element = h('li', {class: 'card'},
    h('div', {class: 'card-head'}, h('h3', {}, first.room), badge),
    name,
    troubles,
    h('div', {class: 'rate'}, facts.rate, chart),
    h('dl', {class: 'facts'}, fact('Viewers', facts.viewers), fact('For', facts.length), fact('Since', facts.since), fact('Codecs', facts.codecs),
      fact('Lost', facts.lost), fact('To viewers', facts.out), fact('Recording', facts.recording), fact('Camera', facts.publisher)),
    h('div', {class: 'actions'},
      h('a', {class: 'button small primary', href: watch, 'aria-label': `Watch ${first.room}`}, 'Watch'),
      h('a', {class: 'button small', href: publish, 'aria-label': `Publish to ${first.room}`}, 'Publish'),
      copyButton(() => watch, {label: 'Copy link', what: `to watch ${first.room}`}), stop));
  element.update = (stream) => {
    element.stream = stream;
    const [words, kind] = stream.state === 'created' ? ['Not started', ''] : stream.publishing ? ['Live', 'live'] : ['Camera away', 'warn'];
    setText(badge, words);
    badge.className = `badge ${kind}`;
    setText(name, stream.name ?? '');
    name.hidden = !stream.name;
    list(troubles, [...new Set(stream.trouble.map(({message}) => message))], (message) => message, troubleNotice);
    setTime(facts.since, stream.startedAt);
    setText(facts.length, stream.startedAt ? duration((Date.now() - stream.startedAt) / 1000) : '–');
    setText(facts.viewers, String(stream.viewers));
    setText(facts.rate, stream.publishing ? bits(stream.publisher.bitrate) : 'no media');
    setText(facts.codecs, stream.publisher.codecs.join(', ') || '–');
    setText(facts.lost, stream.publisher.lost === null ? '–' : percent(stream.publisher.lost));
    setText(facts.out, bits(stream.outBitrate));
    const subject = stream.publisher.subject ?? '–';
    setText(facts.publisher, subject);
    facts.publisher.title = subject;
    setText(facts.recording, recordings.has(stream.id) ? 'On' : 'Off');
    chart.push(stream.publishing ? stream.publisher.bitrate : 0);
  };
  return element;
}

/** A notice in two sentences: the fact stands out, the remedy follows. */
function troubleNotice(message) {
  const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`.replace(/(\d) (?=s\b|%)/g, '$1\u00a0');
  const [fact, remedy] = troubleParts(message);
  return h('p', {class: 'notice'}, h('strong', {}, sentence(fact)), remedy && ` ${sentence(remedy)}`);
}

/** Splits the message of a trouble, which has the form `fact: remedy`; the remedy may be absent. */
function troubleParts(message) {
  const [, fact, remedy] = /^(.*?)(?:: (.*))?$/s.exec(message);
  return [fact, remedy ?? null];
}

function row(first) {
  const ended = time(null);
  const started = time(null);
  const length = h('span', {class: 'number'});
  const why = h('span', {});
  const play = h('button', {type: 'button', class: 'small', 'aria-label': `Recording of ${first.room}`,
    onclick: () => recordings.open(first.id)}, 'Recording');
  const element = h('li', {class: 'row'},
    h('div', {class: 'row-main'}, h('strong', {}, first.name ? `${first.room}: ${first.name}` : first.room), h('span', {class: 'hint'}, why)),
    h('div', {class: 'row-facts'}, h('span', {}, started, ' – ', ended), length),
    h('div', {class: 'actions'}, play));
  element.update = (stream) => {
    play.hidden = !recordings.has(stream.id, stream.startedAt);
    setTime(started, stream.startedAt);
    setTime(ended, stream.endedAt);
    setText(length, stream.startedAt && stream.endedAt ? duration((stream.endedAt - stream.startedAt) / 1000) : '');
    setText(why, REASONS[stream.endReason] ?? stream.endReason ?? '');
  };
  return element;
}

async function endStream(stream) {
  const sure = await confirmed({
    title: `End the stream in ${stream.room}?`,
    text: `Its camera and ${count(stream.viewers, 'viewer')} are disconnected, and its recording is finished.`,
    action: 'End the stream',
  });
  if (!sure) return;
  try {
    await api.endStream(stream.id);
    announce(`The stream in ${stream.room} was ended`);
  } catch (error) {
    failed(error);
  }
  rounds = 0;
  refresh();
}

$('past-more').addEventListener('click', async () => {
  try {
    const older = await api.streams({state: 'ended', before: past.at(-1)?.id, limit: 50});
    past = merge(past, older);
    list($('past'), past, ({id}) => id, row);
    $('past-more').hidden = older.length < 50;
    announce(`${count(older.length, 'more stream')} listed`);
  } catch (error) {
    failed(error);
  }
});

// What happens.

function heard({name, at, data}) {
  if (name === 'events:missed') return refresh();
  const inner = data.data ?? data;
  const room = data.room ?? inner.room ?? '';
  const viewers = inner.count ?? inner.viewers;
  const words = name === 'viewers:changed' && viewers !== undefined ? count(viewers, 'viewer') : EVENTS[name] ?? name;
  const why = name.startsWith('trouble:') && inner.message ? `: ${troubleParts(inner.message)[0]}`
    : inner.reason ? ` (${REASONS[inner.reason] ?? inner.reason})` : '';
  const target = $('events');
  target.prepend(h('li', {class: name.replace(':', '-')}, time(at), h('strong', {}, room), h('span', {}, `${words}${why}`)));
  while (target.children.length > EVENTS_KEPT) target.lastElementChild.remove();
  $('events-empty').hidden = true;
  if (name.startsWith('stream:') || name.startsWith('publisher:')) announce(`${room}: ${words}`);
  if (name !== 'viewers:changed') rounds = 0;
  refresh();
}

function connected(up) {
  if (up && !$('events').children.length) $('events-empty').hidden = false;
  setText($('events-state'), locked ? '' : up ? 'Updates as they happen' : `Events are interrupted: numbers come every ${REFRESH / 1000} s`);
  $('events-state').className = up ? 'hint' : 'hint warn-text';
}

/** An action failed: its error stays long enough to be read, though the next round may go well. */
function failed(error) {
  staysUntil = Date.now() + ERROR_STAYS;
  problem(error);
}

/** Tells of an error; null: all is well. */
function problem(error) {
  const banner = $('problem');
  if (!error) {
    if (Date.now() < staysUntil) return;
    if (!standing) banner.hidden = true;
    else setText($('problem-text'), standing.message);
    if (!answering) announce('The server answers again');
    answering = true;
    return;
  }
  const denied = error instanceof RequestError && (error.status === 401 || error.status === 403);
  if (denied) {
    // Nothing is asked again until there is another token.
    locked = true;
    stopEvents?.();
    stopEvents = null;
    setText($('events-state'), '');
  }
  const text = error.status === 401 && token() ? 'This access token is not valid, or has expired. The console needs one with the scope admin.'
    : error.status === 403 ? 'This access token does not have the scope admin, which the console needs.'
    : denied ? 'The console needs an access token with the scope admin.'
    : error instanceof TypeError ? 'The server does not answer. Trying again…'
    : error.message;
  setText($('problem-text'), text);
  $('problem-token').hidden = !denied;
  banner.hidden = false;
  answering = error === standing;
}

function newRoom() {
  const field = $('new-room');
  field.value = `room-${Math.random().toString(36).slice(2, 6)}`;
  const address = () => pageUrl(`/publish/${encodeURIComponent(field.value.trim())}`);
  const copy = copyButton(address, {label: 'Copy publish link'});
  copy.className = '';
  $('new-actions').append(copy);
  $('new-form').addEventListener('submit', (event) => {
    event.preventDefault();
    location.assign(address());
  });
  $('empty-publish').addEventListener('click', () => field.focus());
}

let stopEvents = api.events(heard, connected);
addEventListener('token', () => {
  stopEvents?.();
  stopEvents = api.events(heard, connected);
  rounds = 0;
  locked = false;
  refresh();
});
addEventListener('zone', () => setText($('now'), clock(new Date())));
setInterval(() => {
  setText($('now'), clock(new Date()));
  if (!document.hidden && !locked) refresh();
}, REFRESH);
$('problem-token').addEventListener('click', () => askToken('An access token with the scope admin shows everything.'));
setText($('now'), clock(new Date()));
refresh();
