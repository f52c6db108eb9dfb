/**
 * One look at a watch page, for tests that are not in JavaScript: `{url, token, relay}` comes as JSON on standard input, what
 * was seen goes as JSON to standard output. Ends with 1 when no moving picture came.
 */
import {eventually, launch} from './browser.js';
import {text} from 'node:stream/consumers';

const {url, token = null, relay = false} = JSON.parse(await text(process.stdin));
const browser = await launch();
try {
  const context = await browser.newContext({ignoreHTTPSErrors: true});
  const page = await context.newPage();
  await page.addInitScript((onlyRelay) => {
    const Native = window.RTCPeerConnection;
    window.connections = [];
    window.RTCPeerConnection = class extends Native {
      constructor(configuration = {}) {
        super(onlyRelay ? {...configuration, iceTransportPolicy: 'relay'} : configuration);
        window.connections.push(this);
      }
    };
  }, relay);
  const started = Date.now();
  await page.goto(token ? `${url}#token=${token}` : url);
  const look = () => page.evaluate(async () => {
    const pc = window.connections.at(-1);
    const video = document.querySelector('whep-player').player.video;
    const stats = [...(await pc.getStats()).values()];
    const transport = stats.find((each) => each.type === 'transport');
    const pair = stats.find((each) => each.id === transport?.selectedCandidatePairId);
    const local = stats.find((each) => each.id === pair?.localCandidateId);
    const remote = stats.find((each) => each.id === pair?.remoteCandidateId);
    const inbound = stats.filter((each) => each.type === 'inbound-rtp');
    return {
      width: video.videoWidth,
      frames: inbound.find((each) => each.kind === 'video')?.framesDecoded ?? 0,
      samples: inbound.find((each) => each.kind === 'audio')?.totalSamplesReceived ?? 0,
      local: local && {type: local.candidateType, protocol: local.relayProtocol ?? local.protocol, url: local.url},
      remote: remote && `${remote.address}:${remote.port}`,
    };
  });
  const first = await eventually('a picture', async () => {
    const now = await look();
    return now.width > 0 && now.frames > 0 && now;
  }, 30);
  const firstAt = Date.now() - started;
  const later = await eventually(`30 frames more than ${first.frames}`, async () => {
    const now = await look();
    return now.frames >= first.frames + 30 && now.samples > 0 && now;
  }, 15);
  console.log(JSON.stringify({...later, first_frame_ms: firstAt}));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await browser.close();
}
