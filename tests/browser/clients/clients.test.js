/**
 * Clients that are not ours, against the running server, without options of theirs or ours: each publishes or watches for ten
 * seconds of media. tests/run long installs them: PyAV's wheel (FFmpeg 8 with GnuTLS: DTLS passive, a P-224 certificate),
 * GStreamer from apt (webrtcbin; before 1.28 an RSA certificate) with the whipclientsink of gst-plugins-rs, which it builds, and
 * the npm port of MediaMTX's reader.
 *
 * CLIENTS is the directory with `python/bin/python` (PyAV), `gstreamer-plugins` and `node_modules/mediamtx-webrtc-react`.
 */
import assert from 'node:assert/strict';
import {execFile} from 'node:child_process';
import {existsSync} from 'node:fs';
import {readFile, writeFile} from 'node:fs/promises';
import {join} from 'node:path';
import {after, before, describe, test} from 'node:test';
import {fileURLToPath} from 'node:url';
import {promisify} from 'node:util';
import {clip, encoded, eventually, folder, launch} from '../browser.js';
import {camera, MEDIA_CLIENT, start} from '../server.js';
import {pageLines, readmeLine} from './lines.js';

const exec = promisify(execFile);
const here = (name) => fileURLToPath(new URL(name, import.meta.url));
/** Seconds of media that each client must pass. */
const MEDIA = 10;
const CLIENTS = process.env.CLIENTS ?? here('../../../target/tools/clients');
/** The one of Debian, which has the bindings of GStreamer. */
const SYSTEM_PYTHON = '/usr/bin/python3';

describe('foreign clients', {timeout: 300_000}, () => {
  let server;
  let browser;
  let files;
  let film;
  let ffmpeg8;

  before(async () => {
    files = await folder();
    [server, browser, film, ffmpeg8] = await Promise.all([start(), launch(), clip(files.path), hasWhip()]);
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
    await files?.clean();
  });

  /** Runs a printed line for FFmpeg with this server and a file of ours in it. */
  async function runFfmpeg(line, room) {
    const ours = line
      .replace('input.mp4', film)
      .replace(/-f whip "?(http:\/\/[^\s"]+)"?$/, `-f whip ${server.url}/whip/${room}`);
    assert.notEqual(ours, line, 'the line has the file and the address that are replaced');
    if (ffmpeg8) return exec('timeout', ['--signal=INT', String(MEDIA + 5), 'bash', '-c', `exec ${ours}`]);
    return exec(join(CLIENTS, 'python/bin/python'), [here('ffmpeg.py'), String(MEDIA + 5), ours], {timeout: 60_000});
  }

  const gstreamer = async (role, url) => {
    const ran = await exec(SYSTEM_PYTHON, [here('gstreamer.py'), role, url, String(MEDIA + 3)], {timeout: 60_000}).catch((error) => error);
    const said = JSON.parse(ran.stdout.trim().split('\n').at(-1) || '{}');
    assert.equal(said.error, undefined, `${said.error}\n${said.offer}\n${said.answer ?? ''}\n${ran.stderr}\n${server.log()}`);
    assert.equal(said.connection, 'connected', ran.stderr);
    return said;
  };

  /** What our viewer counts of ten seconds of the room, which must be whole. */
  async function watched(room) {
    await eventually(`${room} is live`, () => live(room), 20);
    const ran = await exec(MEDIA_CLIENT, ['view', `${server.url}/whep/${room}`, '--seconds', String(MEDIA), '--json'], {timeout: 60_000});
    const [seen] = JSON.parse(ran.stdout).each;
    assert.ok(seen.video && seen.audio, `both kinds come: ${ran.stdout}`);
    assert.ok(seen.video.keyframes >= 2, `${seen.video.keyframes} keyframes in ${MEDIA} s`);
    assert.ok(seen.video.frames >= 0.9 * MEDIA * 25, `${seen.video.frames} frames in ${MEDIA} s`);
    assert.equal(seen.video.lost + seen.audio.lost, 0, 'packets are lost on the loopback');
    return seen;
  }

  const live = async (room) => (await (await fetch(`${server.url}/streams?room=${room}`)).json()).streams.some(({state}) => state === 'live');

  /** Waits for the room's recording and decodes it: seconds of media, without an error. */
  async function recorded(room) {
    const of = async () => (await (await fetch(`${server.url}/recordings?room=${room}`)).json()).recordings[0];
    const recording = await eventually(`${room} is recorded`, async () => {
      const found = await of();
      return found?.state === 'complete' && found;
    }, 60);
    const path = join(files.path, `${room}.mp4`);
    const answer = await fetch(new URL(`/recordings/${recording.id}/recording.mp4`, server.url));
    assert.equal(answer.status, 200);
    await writeFile(path, Buffer.from(await answer.arrayBuffer()));
    // Frames keep their own times: the null muxer would complain of jitter that it rounds to a frame rate.
    const decoded = await exec('ffmpeg', ['-v', 'error', '-xerror', '-i', path, '-map', '0:v', '-map', '0:a', '-fps_mode', 'passthrough',
      '-enc_time_base', '-1', '-f', 'null', '-']);
    assert.equal(decoded.stderr, '', 'the recording is decoded without an error');
    const probed = await exec('ffprobe', ['-v', 'error', '-show_entries', 'format=duration', '-of', 'csv=p=0', path]);
    assert.ok(Number(probed.stdout) >= MEDIA, `${probed.stdout.trim()} s are recorded`);
    return Number(probed.stdout);
  }

  async function published(room, running) {
    const failed = running.then(() => new Promise(() => {}), (error) => Promise.reject(new Error(`${error.message}\n${error.stdout}\n${error.stderr}\n${server.log()}`)));
    const seen = await Promise.race([watched(room), failed]);
    await running;
    const seconds = await recorded(room);
    console.log(`${room}: ${seen.video.frames} frames and ${seen.audio.packets} packets of sound in ${MEDIA} s; ${seconds} s recorded`);
  }

  test('FFmpeg publishes by the line of the README', async () => {
    await published('readme-ffmpeg', runFfmpeg(await readmeLine(), 'readme-ffmpeg'));
  });

  test('FFmpeg publishes by the line of the publish page', async () => {
    const page = await browser.newPage();
    const {ffmpeg} = await pageLines(page, server.url, 'page-ffmpeg');
    await page.close();
    assert.ok(ffmpeg.includes(`${server.url}/whip/page-ffmpeg`), ffmpeg);
    await published('page-ffmpeg', runFfmpeg(ffmpeg, 'page-ffmpeg'));
  });

  test('GStreamer publishes by the line of the publish page', async (context) => {
    const built = join(CLIENTS, 'gstreamer-plugins');
    const env = {...process.env, GST_PLUGIN_PATH: [built, process.env.GST_PLUGIN_PATH].filter(Boolean).join(':')};
    // A plugin that was built and does not load fails the test.
    if (!existsSync(built) && !(await exec('gst-inspect-1.0', ['whipclientsink']).then(() => true, () => false))) {
      context.skip(`there is no whipclientsink in this GStreamer nor in ${built}; tests/run long builds it`);
      return;
    }
    const page = await browser.newPage();
    const line = (await pageLines(page, server.url, 'page-gstreamer')).gstreamer;
    await page.close();
    // In the foreground the signal comes once; a second one would end gst-launch-1.0 before it has ended its session.
    const running = exec('timeout', ['--foreground', '--signal=INT', String(MEDIA + 10), 'bash', '-c', `exec ${line}`], {env}).catch((error) => {
      if (error.code !== 124) throw error;
    });
    await published('page-gstreamer', running);
  });

  test('webrtcbin publishes with its defaults', async () => {
    await published('gstreamer', gstreamer('publish', `${server.url}/whip/gstreamer`));
  });

  describe('watch', () => {
    let playing;

    before(async () => {
      playing = camera(server.url, 'watched', await encoded(files.path, {codec: 'h264', seconds: 8}));
      await eventually('the camera is live', () => live('watched'));
    });

    after(() => playing?.stop());

    test('webrtcbin watches with its defaults', async () => {
      const seen = await gstreamer('watch', `${server.url}/whep/watched`);
      console.log(`${seen.gstreamer}: ${seen.frames} frames, ${seen.samples} samples decoded`);
      assert.ok(seen.frames >= 0.9 * MEDIA * 30, `${seen.frames} frames decoded`);
      assert.ok(seen.samples >= 0.9 * MEDIA * 48_000, `${seen.samples} samples decoded`);
    });

    test('a reader with a data channel watches', async () => {
      const page = await browser.newPage();
      await page.goto(server.url);
      await page.evaluate(`(${(await readFile(here('reader.js'), 'utf8')).replace(/^[^]*?export /, '')})('/whep/watched')`);
      const answer = await page.evaluate(() => window.reader.answer);
      assert.match(answer, /^m=application 0 /m, 'the data channel is rejected by port 0');
      await decoded(page, 'reader');
      await page.close();
    });

    test('the reader of MediaMTX watches, with its data channel', async () => {
      const page = await browser.newPage();
      const module = await readFile(join(CLIENTS, 'node_modules/mediamtx-webrtc-react/dist/index.js'), 'utf8');
      await page.goto(server.url);
      // The published port lacks the data channel of the original: it is opened in every connection with media.
      await page.addInitScript(() => {
        const Native = window.RTCPeerConnection;
        window.RTCPeerConnection = class extends Native {
          addTransceiver(...rest) {
            if (!this.channel && rest[0] === 'video') this.channel = this.createDataChannel('');
            return super.addTransceiver(...rest);
          }
        };
      });
      await page.reload();
      await page.evaluate(readerOf(module, '/whep/watched'));
      await decoded(page, 'MediaMTX reader');
      await page.close();
    });

    /** Ten seconds of picture and sound are decoded by the page's connection. */
    async function decoded(page, name) {
      const look = () => page.evaluate(async () => {
        const pc = window.reader?.pc ?? window.foreign.peerConnection;
        if (!pc) return {failed: window.failed};
        const inbound = [...(await pc.getStats()).values()].filter((each) => each.type === 'inbound-rtp');
        const of = (kind) => inbound.find((each) => each.kind === kind) ?? {};
        return {state: pc.connectionState, frames: of('video').framesDecoded ?? 0, packets: of('audio').packetsReceived ?? 0, failed: window.failed};
      });
      const now = await eventually(`${name}: ${MEDIA} s of frames`, async () => {
        const seen = await look();
        if (!(seen.frames >= MEDIA * 30 && seen.packets >= MEDIA * 45)) throw new Error(JSON.stringify(seen));
        return seen;
      }, MEDIA + 10);
      console.log(`${name}: ${now.frames} frames decoded, ${now.packets} packets of sound`);
    }
  });
});

/** Whether the ffmpeg of this machine has the WHIP muxer. */
async function hasWhip() {
  return (await exec('ffmpeg', ['-v', 'quiet', '-muxers'])).stdout.split('\n').some((line) => / whip /.test(line));
}

/** The reader's class alone, from the module around it, started in the page. */
function readerOf(module, url) {
  const begin = module.search(/^(var|let|const) \w*MediaMTXWebRTCReader\w* = class|^(export )?class MediaMTXWebRTCReader/m);
  const end = module.search(/^import \{ useEffect/m);
  const name = module.match(/(\w*MediaMTXWebRTCReader\w*)/)[1];
  const close = module.slice(begin, end).replace(/^\/\/ src.*$/gm, '');
  return `${close}\nwindow.video = document.body.appendChild(Object.assign(document.createElement('video'), {muted: true, autoplay: true}));
    window.foreign = new ${name}({url: new URL('${url}', location.href).href, onError: (text) => { window.failed = text; }, onTrack: (event) => { window.video.srcObject = event.streams[0]; }}); undefined`;
}
