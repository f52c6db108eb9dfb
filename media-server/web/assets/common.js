/**
 * What the pages share: the access token, requests, elements, times in one zone, words for numbers, copy buttons.
 * The player does not use this file: it stands alone.
 */

/** Where the server is: the pages work below any path, as a proxy may have it. */
const root = new URL('..', import.meta.url);

/** The address of a path of the server's; of one that has the path of the proxy in front already, too. */
export function at(path) {
  return new URL(path.startsWith(root.pathname) ? path : path.replace(/^\//, root.pathname), root).href;
}

/**
 * `sessionStorage` or `localStorage`; memory where the browser denies it, as in frames of other sites. Reading the member of
 * `window` throws there.
 */
function storage(kind) {
  const memory = new Map();
  let kept = null;
  try {
    kept = window[kind];
  } catch {
    // Memory remains.
  }
  const attempt = (action) => {
    try {
      return kept ? action(kept) : null;
    } catch {
      return null;
    }
  };
  return {
    get: (name) => memory.get(name) ?? attempt((store) => store.getItem(name)),
    set: (name, value) => {
      memory.set(name, value);
      attempt((store) => store.setItem(name, value));
    },
    remove: (name) => {
      memory.delete(name);
      attempt((store) => store.removeItem(name));
    },
  };
}

const ofTab = storage('sessionStorage');
const ofSite = storage('localStorage');

// Access token: `#token=…` once, then this tab's session storage; it never stays in the address.
const fragment = new URLSearchParams(location.hash.slice(1));
if (fragment.has('token')) {
  ofTab.set('token', fragment.get('token'));
  fragment.delete('token');
  history.replaceState(null, '', location.pathname + location.search + (fragment.size ? `#${fragment}` : ''));
}

export function token() {
  return ofTab.get('token') || null;
}

export function setToken(value) {
  mediaTokens.clear();
  if (value) ofTab.set('token', value);
  else ofTab.remove('token');
  dispatchEvent(new Event('token'));
}

/** Media tokens by recording, each as {renewAt, token}: milliseconds, and a promise of the server's answer. */
const mediaTokens = new Map();
/** Seconds that one is requested for: a recording must play to its end, pauses included. */
const MEDIA_LIFETIME = 6 * 3600;

/**
 * The address of media for elements that cannot send a header (a `<video>`, a link): with a media token, which reads that
 * recording, or the recordings of that room, alone. The access token, which can do more, stays out of addresses.
 */
export async function withToken(url) {
  const [scope, kind, name] = /\/(recording|room)s\/([^/?]+)\//.exec(url) ?? [];
  if (!token() || !scope) return at(url);
  if (!(mediaTokens.get(scope)?.renewAt > Date.now())) {
    const body = JSON.stringify({[kind]: decodeURIComponent(name), lifetimeSeconds: MEDIA_LIFETIME});
    const fresh = {renewAt: Infinity, token: json('/media-tokens', {method: 'POST', headers: {'Content-Type': 'application/json'}, body})};
    // Half of its time: an address that changes more often would make the player load again.
    fresh.token.then(({expiresAt}) => (fresh.renewAt = (Date.now() + instant(expiresAt).getTime()) / 2), () => mediaTokens.delete(scope));
    mediaTokens.set(scope, fresh);
  }
  return `${at(url)}${url.includes('?') ? '&' : '?'}media_token=${(await mediaTokens.get(scope).token).token}`;
}

/** A link to a recording's file, whose media token is renewed when it is about to be used. */
export function fileLink(url, properties, text) {
  const anchor = h('a', {...properties, href: at(url)}, text);
  const renew = () => withToken(url).then((address) => (anchor.href = address)).catch(() => {});
  for (const type of ['pointerenter', 'focus']) anchor.addEventListener(type, renew);
  renew();
  return anchor;
}

/**
 * Who this tab is to a server without tokens: there any bearer word names its bearer, and the same name may take its own
 * place in a room again.
 */
export function tabIdentity() {
  let name = ofTab.get('identity');
  if (!name) {
    name = `tab-${[...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;
    ofTab.set('identity', name);
  }
  return name;
}

export function authorization() {
  return token() ? {Authorization: `Bearer ${token()}`} : {};
}

/** A response that is not 2xx; `problem` is its RFC 9457 document, or null. */
export class RequestError extends Error {
  constructor(status, problem) {
    super([problem?.title, problem?.detail].filter(Boolean).join(': ') || `The server answered ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

export async function request(path, options = {}) {
  const response = await fetch(at(String(path)), {...options, headers: {...options.headers, ...authorization()}});
  if (!response.ok) {
    const json = (response.headers.get('content-type') ?? '').includes('json');
    throw new RequestError(response.status, json ? await response.json().catch(() => null) : null);
  }
  return response;
}

export async function json(path, options) {
  const response = await request(path, options);
  return response.status === 204 ? null : response.json();
}

/** An element: `h('a', {href: '/', class: 'x', onclick: f}, 'text', other)`. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows `items` in `parent`, one element a key; an element lives on with its item, so focus and open menus stay. */
export function list(parent, items, key, create) {
  const old = new Map([...parent.children].map((element) => [element.dataset.key, element]));
  items.forEach((item, index) => {
    const name = String(key(item));
    let element = old.get(name);
    old.delete(name);
    if (!element) {
      element = create(item);
      element.dataset.key = name;
    }
    if (parent.children[index] !== element) parent.insertBefore(element, parent.children[index] ?? null);
    element.update?.(item);
  });
  for (const element of old.values()) element.remove();
}

// Words for numbers.

export function bits(perSecond) {
  if (perSecond === null || perSecond === undefined) return '–';
  if (perSecond >= 999_500) return `${(perSecond / 1e6).toFixed(perSecond >= 9_950_000 ? 0 : 1)} Mbit/s`;
  return `${Math.round(perSecond / 1000)} kbit/s`;
}

export function bytes(count) {
  if (count === null || count === undefined) return '–';
  if (count < 1000) return `${count} B`;
  const units = ['kB', 'MB', 'GB', 'TB'];
  let value = count;
  let unit = -1;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value.toFixed(value < 9.95 ? 1 : 0)} ${units[unit]}`;
}

/** 75 → `1:15`, 3700 → `1:01:40`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return '–';
  const whole = Math.max(0, Math.floor(seconds));
  const two = (value) => String(value).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

export function percent(share) {
  return `${(share * 100).toFixed(share && share < 0.1 ? 2 : 1)} %`;
}

export function count(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

// One visible time zone for the whole page; UTC on hover and in the API.

let zone = ofSite.get('zone') === 'UTC' ? 'UTC' : Intl.DateTimeFormat().resolvedOptions().timeZone;

export function timeZone() {
  return zone;
}

/** An RFC 3339 text, seconds or milliseconds since the epoch → a Date, or null. */
export function instant(value) {
  if (value === null || value === undefined) return null;
  const date = new Date(typeof value === 'number' && value < 1e11 ? value * 1000 : value);
  return Number.isNaN(date.getTime()) ? null : date;
}

function formatted(date, fields) {
  return new Intl.DateTimeFormat('en-GB', {timeZone: zone, hourCycle: 'h23', ...fields}).format(date);
}

/** `14:03:20` for today, else `4 Mar 2026, 14:03:20`, in the page's zone. */
export function clock(date) {
  const day = {year: 'numeric', month: 'short', day: 'numeric'};
  const time = {hour: '2-digit', minute: '2-digit', second: '2-digit'};
  const today = formatted(date, day) === formatted(new Date(), day);
  return formatted(date, today ? time : {...day, ...time});
}

export function clockShort(date, seconds = false) {
  return formatted(date, {hour: '2-digit', minute: '2-digit', ...(seconds ? {second: '2-digit'} : {})});
}

export function day(date) {
  return formatted(date, {year: 'numeric', month: 'short', day: 'numeric'});
}

/** Milliseconds that the page's zone is ahead of UTC at `date`. */
export function zoneOffset(date) {
  const parts = Object.fromEntries(new Intl.DateTimeFormat('en-GB', {timeZone: zone, hourCycle: 'h23', year: 'numeric', month: 'numeric',
    day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric'}).formatToParts(date).map(({type, value}) => [type, Number(value)]));
  return Date.UTC(parts.year, parts.month - 1, parts.day, parts.hour, parts.minute, parts.second) - Math.floor(date.getTime() / 1000) * 1000;
}

/** What a datetime-local field holds, read in the page's zone. */
export function fromField(text) {
  const guess = new Date(`${text}${text.length === 16 ? ':00' : ''}Z`);
  if (Number.isNaN(guess.getTime())) return null;
  return new Date(guess.getTime() - zoneOffset(new Date(guess.getTime() - zoneOffset(guess))));
}

export function toField(date) {
  return new Date(date.getTime() + zoneOffset(date)).toISOString().slice(0, 19);
}

/** A <time> that follows the page's zone. */
export function time(value) {
  const element = h('time');
  setTime(element, value);
  return element;
}

export function setTime(element, value) {
  const date = instant(value);
  const iso = date?.toISOString() ?? '';
  if (element.dateTime === iso && element.textContent) return;
  element.dateTime = iso;
  if (date) element.title = `${iso.replace('T', ' ').replace(/\.\d+Z$/, '')} UTC`;
  element.textContent = date ? clock(date) : '–';
}

/** Fills a <select> with the two zones, and rewrites every <time> on a change. */
export function zonePicker(select) {
  const local = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const zones = local === 'UTC' ? ['UTC'] : [local, 'UTC'];
  select.append(...zones.map((name) => h('option', {value: name}, name === 'UTC' ? 'UTC' : `${name.replaceAll('_', ' ')} (local)`)));
  select.value = zone;
  select.addEventListener('change', () => {
    zone = select.value;
    ofSite.set('zone', zone === 'UTC' ? 'UTC' : 'local');
    for (const element of document.querySelectorAll('time[datetime]')) {
      const date = instant(element.dateTime);
      if (date) element.textContent = clock(date);
    }
    dispatchEvent(new Event('zone'));
  });
}

/** Says `text` to a screen reader, by the page's `#announcer`. */
export function announce(text) {
  const region = document.getElementById('announcer');
  if (!region) return;
  region.textContent = '';
  setTimeout(() => (region.textContent = text), 50);
}

/** A button that copies what `text()` gives. */
export function copyButton(text, {label = 'Copy', what = ''} = {}) {
  const button = h('button', {type: 'button', class: 'small', 'aria-label': what ? `${label} ${what}` : null}, label);
  let back = 0;
  button.addEventListener('click', async () => {
    const copied = await copy(text());
    button.textContent = copied ? 'Copied' : 'Press Ctrl+C';
    announce(copied ? `${what || 'Text'} copied` : 'Copying is not allowed here');
    clearTimeout(back);
    back = setTimeout(() => (button.textContent = label), 2000);
  });
  return button;
}

/** The clipboard API needs HTTPS or localhost; elsewhere the old way. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h('textarea', {class: 'unseen', readonly: true});
    area.value = text;
    document.body.append(area);
    const focused = document.activeElement;
    area.select();
    const copied = document.execCommand('copy');
    area.remove();
    focused?.focus();
    return copied;
  }
}

/** A copyable line: label, text, button. */
export function link(label, text, {note = null} = {}) {
  const code = h('code', {tabindex: '0', role: 'textbox', 'aria-readonly': 'true', 'aria-multiline': 'true', 'aria-label': label}, text);
  const row = h('div', {class: 'copyable'},
    h('div', {class: 'copyable-head'}, h('span', {class: 'label'}, label), copyButton(() => code.textContent, {what: label})),
    code, note ? h('p', {class: 'hint'}, note) : null);
  row.set = (value) => setText(code, value);
  return row;
}

/** A <dialog> that asks; resolves to true only by its own button. */
export function confirmed({title, text, action}) {
  return new Promise((resolve) => {
    const heading = h('h2', {id: 'confirm-title'}, title);
    const dialog = h('dialog', {'aria-labelledby': 'confirm-title', 'aria-describedby': 'confirm-text'},
      h('form', {method: 'dialog'}, heading, h('p', {id: 'confirm-text'}, text),
        h('div', {class: 'actions end'}, h('button', {value: 'no', autofocus: true}, 'Cancel'), h('button', {value: 'yes', class: 'danger'}, action))));
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'yes');
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Asks for the access token; resolves when the dialog closes. */
export function askToken(reason) {
  if (document.getElementById('token-dialog')) return Promise.resolve(false);
  return new Promise((resolve) => {
    const field = h('input', {id: 'token-field', type: 'password', autocomplete: 'off', spellcheck: 'false'});
    field.value = token() ?? '';
    const dialog = h('dialog', {id: 'token-dialog', 'aria-labelledby': 'token-title'},
      h('form', {method: 'dialog'}, h('h2', {id: 'token-title'}, 'Access token'),
        h('p', {}, reason), h('label', {for: 'token-field'}, 'Token'), field,
        h('p', {class: 'hint'}, 'Kept in this tab only, until it is closed.'),
        h('div', {class: 'actions end'}, h('button', {type: 'button', onclick: () => dialog.close('no')}, 'Cancel'), h('button', {value: 'yes', class: 'primary'}, 'Use token'))));
    dialog.addEventListener('close', () => {
      dialog.remove();
      if (dialog.returnValue === 'yes') setToken(field.value.trim());
      resolve(dialog.returnValue === 'yes');
    });
    document.body.append(dialog);
    dialog.showModal();
    field.focus();
  });
}

/** How the server is set up: `{version, auth, media, recording, metrics}`; null when it does not say. */
export const config = fetch(at('/config.json'), {headers: authorization()}).then((response) => (response.ok ? response.json() : null)).catch(() => null);

/** An open server has no use for a token, so the button appears only where one counts. */
export function tokenButton(button) {
  config.then((found) => (button.hidden = found?.auth === 'open' && !token()));
  button.addEventListener('click', () => askToken('The server tells apart who may publish, watch and administer by a bearer token.'));
  const render = () => setText(button, token() ? 'Token set' : 'Token');
  addEventListener('token', render);
  render();
}

/** A small line chart of the last values; decoration, the number stands beside it. */
export function sparkline(points = 60) {
  const line = svg('polyline', {fill: 'none', 'vector-effect': 'non-scaling-stroke'});
  const area = svg('polygon', {});
  const chart = svg('svg', {class: 'spark', viewBox: '0 0 100 24', preserveAspectRatio: 'none', 'aria-hidden': 'true'}, area, line);
  const values = [];
  chart.push = (value) => {
    values.push(value ?? 0);
    if (values.length > points) values.shift();
    if (values.length < 2) return;
    const top = Math.max(...values, 1);
    const at = (each, index) => `${(100 - (values.length - 1 - index) * 100 / (points - 1)).toFixed(2)},${(23 - each / top * 22).toFixed(2)}`;
    const path = values.map(at).join(' ');
    line.setAttribute('points', path);
    area.setAttribute('points', `${path} 100,24 ${(100 - (values.length - 1) * 100 / (points - 1)).toFixed(2)},24`);
  };
  return chart;
}

/** The room in `/publish/{room}` or `/watch/{room}`. */
export function roomOfPage() {
  return decodeURIComponent(location.pathname.slice(root.pathname.length).split('/')[1] ?? '');
}

export const pageUrl = at;
