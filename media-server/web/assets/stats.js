/** Live statistics as a page shows them: what `summarise` of player.js gives, in words, with a line for the bitrate. */
import {bits, h, percent, setText, sparkline} from './common.js';

const LIMITS = {cpu: 'this computer is too slow', bandwidth: 'the network is slow', other: 'the browser'};

/** `show(stats)` draws one sample; null clears. */
export function statistics(root) {
  const chart = sparkline();
  const rate = h('span', {class: 'number'}, '–');
  const rows = new Map();
  const facts = h('dl', {class: 'stats'});
  const empty = h('p', {class: 'hint'}, 'Numbers appear while media flows.');
  const body = h('div', {hidden: true}, h('div', {class: 'rate'}, rate, chart), facts);
  root.append(empty, body);

  const set = (name, value) => {
    let row = rows.get(name);
    if (!row) {
      row = h('div', {}, h('dt', {}, name), h('dd'));
      rows.set(name, row);
      facts.append(row);
    }
    row.hidden = value === null || value === undefined || value === '';
    if (!row.hidden) setText(row.lastChild, value);
  };

  return {
    show(stats) {
      const there = Boolean(stats?.transport);
      body.hidden = !there;
      empty.hidden = there;
      if (!there) return;
      const {video, audio, transport, timing} = stats;
      const total = (video?.bitrate ?? 0) + (audio?.bitrate ?? 0);
      setText(rate, bits(total));
      chart.push(total);
      const sending = (video ?? audio)?.direction === 'out';
      set('Picture', video?.width ? `${video.width} × ${video.height}, ${Math.round(video.fps ?? 0)} frames/s` : null);
      set('Video', video ? [video.codec, profile(video), bits(video.bitrate)].filter(Boolean).join(', ') : null);
      set('Audio', audio ? [audio.codec, bits(audio.bitrate)].filter(Boolean).join(', ') : null);
      set('Round trip', transport.rtt === null ? null : `${transport.rtt.toFixed(transport.rtt < 10 ? 1 : 0)} ms`);
      set('Lost', percent((video ?? audio)?.lost ?? 0));
      set('Jitter', (video ?? audio)?.jitter === null ? null : `${((video ?? audio)?.jitter ?? 0).toFixed(1)} ms`);
      set(sending ? 'Frames sent' : 'Frames shown', video ? `${video.frames ?? 0}${video.dropped ? ` (${video.dropped} dropped)` : ''}` : null);
      set('Freezes', video?.freezes ? String(video.freezes) : null);
      set('Held back by', sending && video?.limited && video.limited !== 'none' ? LIMITS[video.limited] ?? video.limited : null);
      set(sending ? 'Encoder' : 'Decoder', video?.codecName);
      set('First picture', timing?.firstFrame ? `${Math.round(timing.firstFrame - timing.post)} ms after the request` : null);
      set('Transport', `${transport.protocol}${transport.relay ? ' by relay' : ''}`);
      set('Why', transport.why);
      set('ICE pair', [`${transport.local ?? 'hidden'} (${transport.localType})`, `${transport.remote ?? 'hidden'} (${transport.remoteType})`].join(' → '));
      set('Encryption', [transport.dtls, transport.srtp].filter(Boolean).join(', ').replaceAll('_', ' '));
    },
  };
}

function profile({codec, parameters}) {
  const level = parameters?.match(/profile-level-id=(\w+)/)?.[1];
  return codec === 'H264' && level ? level : null;
}
