/** The watch page: the stand-alone player, its statistics, and links to share. */
import './player.js';
import {askToken, config, h, link, pageUrl, roomOfPage, token, tokenButton} from './common.js';
import {statistics} from './stats.js';

const room = roomOfPage();
const name = encodeURIComponent(room);
const whep = pageUrl(`/whep/${name}`);

const screen = h('whep-player', {label: `Live picture of ${room}`, token: token(), src: whep});
document.getElementById('screen').append(screen);

document.title = `${room} · watch`;
document.getElementById('room').textContent = room;
tokenButton(document.getElementById('token'));
addEventListener('token', () => (token() ? screen.setAttribute('token', token()) : screen.removeAttribute('token')));
screen.addEventListener('state', ({detail}) => {
  document.title = detail.state === 'playing' ? `${room} · live` : `${room} · watch`;
  if (detail.state === 'denied') askToken(detail.text);
});

const panel = document.getElementById('stats-panel');
const numbers = statistics(document.getElementById('stats'));
setInterval(async () => {
  if (!document.hidden && panel.open) numbers.show(await screen.player?.stats() ?? null);
}, 1000);

document.getElementById('links').append(
  link('This page', pageUrl(`/watch/${name}`)),
  link('WHEP URL', whep, {note: 'For players that speak WHEP.'}));
config.then((found) => {
  const tokens = found?.auth !== 'open';
  document.getElementById('links').append(link('In your own page',
    `<script type="module" src="${pageUrl('/assets/player.js')}"></script>\n<whep-player src="${whep}"${tokens ? ' token="TOKEN"' : ''}></whep-player>`,
    {note: tokens ? 'TOKEN needs the scope subscribe and this room; whoever opens your page can read it.' : null}));
});
