/** Chromium against the running server: it publishes, watches, joins quickly, and goes on after a loss. */
import assert from 'node:assert/strict';
import {mkdtemp} from 'node:fs/promises';
import {createServer} from 'node:http';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {after, afterEach, before, describe, test} from 'node:test';
import {complaints, encoded, eventually, folder, launch, movingPicture, tones} from '../browser.js';
import {camera, start} from '../server.js';

const JOINS = 20;
/** Milliseconds: the keyframe interval of the encoded clip, and what half the joins may take to a picture. */
const KEYFRAME_INTERVAL = 2000;
const FIRST_FRAME = 200;
/** Hz: a tone in each channel, and by how much a measured one may differ. */
const TONES = {left: 440, right: 880};
const TONE_TOLERANCE = 15;
/** dB: by how much a channel's own tone is louder than the other channel's. */
const SEPARATION = 20;

describe('live', () => {
  let server;
  let browser;
  let files;
  let shots;
  let open = [];

  before(async () => {
    files = await folder();
    shots = process.env.SCREENSHOTS ?? await mkdtemp(join(tmpdir(), 'screenshots-'));
    console.log(`screenshots: ${shots}`);
    server = await start();
    browser = await launch({camera: await movingPicture(files.path)});
  });

  afterEach(async () => {
    for (const each of open.reverse()) await each();
    open = [];
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
    await files?.clean();
  });

  async function page(path, {init = null, argument = null} = {}) {
    const context = await browser.newContext({viewport: {width: 1280, height: 900}, permissions: ['camera', 'microphone']});
    open.push(() => context.close());
    const opened = await context.newPage();
    opened.complaints = complaints(opened);
    if (init) await opened.addInitScript(init, argument);
    await opened.goto(new URL(path, server.url).href);
    return opened;
  }

  async function publish(room, options = {}) {
    const publisher = await page(`/publish/${room}`, options);
    await publisher.getByRole('button', {name: 'Start'}).click();
    await publisher.getByText('You are live').waitFor({timeout: 10_000});
    return publisher;
  }

  const state = (viewer) => viewer.evaluate(() => document.querySelector('whep-player').player.state);
  const frames = (viewer) => viewer.evaluate(async () => {
    const {player} = document.querySelector('whep-player');
    const stats = await player.stats();
    return {width: player.video.videoWidth, frames: stats?.video?.frames ?? 0, time: player.video.currentTime};
  });
  const rising = async (what, viewer, beyond = 0) => {
    const first = await eventually(`${what}: a picture`, async () => {
      const now = await frames(viewer);
      return now.width > 0 && now.frames > beyond && now;
    });
    await eventually(`${what}: more frames than ${first.frames}`, async () => (await frames(viewer)).frames > first.frames + 15);
    return first;
  };

  /** What a watch page plays: for each channel its strongest frequency, and how loud both tones are. */
  const listen = async (viewer) => {
    await rising('the viewer', viewer);
    await viewer.evaluate((tones) => {
      const context = new AudioContext({sampleRate: 48_000});
      const splitter = context.createChannelSplitter(2);
      context.createMediaStreamSource(document.querySelector('whep-player').video.srcObject).connect(splitter);
      const analysers = ['left', 'right'].map((name, channel) => {
        const analyser = new AnalyserNode(context, {fftSize: 32_768, smoothingTimeConstant: 0});
        splitter.connect(analyser, channel);
        return [name, analyser];
      });
      const hertz = context.sampleRate / 32_768;
      window.spectra = () => Object.fromEntries(analysers.map(([name, analyser]) => {
        const levels = new Float32Array(analyser.frequencyBinCount);
        analyser.getFloatFrequencyData(levels);
        const strongest = levels.indexOf(levels.reduce((a, b) => Math.max(a, b)));
        const level = (tone) => Math.max(...levels.slice(Math.floor(tone / hertz) - 2, Math.ceil(tone / hertz) + 3));
        return [name, {frequency: strongest * hertz, loudness: levels[strongest], left: level(tones.left), right: level(tones.right)}];
      }));
    }, TONES);
    // The analysers look back over 0.7 s.
    await eventually('sound', () => viewer.evaluate(() => window.spectra().left.loudness > -60));
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const heard = await viewer.evaluate(() => window.spectra());
    console.log(JSON.stringify(heard));
    return heard;
  };
  const assertTones = (heard) => {
    for (const [channel, other] of [['left', 'right'], ['right', 'left']]) {
      const {frequency, [channel]: own, [other]: strange} = heard[channel];
      assert.ok(Math.abs(frequency - TONES[channel]) <= TONE_TOLERANCE, `the ${channel} channel plays ${frequency} Hz`);
      assert.ok(own - strange >= SEPARATION, `the ${channel} channel's own tone is only ${own - strange} dB louder than the other one`);
    }
  };

  test('the publish page streams its camera, and two watch pages show it', async () => {
    const publisher = await publish('door');
    const viewers = [await page('/watch/door'), await page('/watch/door')];
    for (const [index, viewer] of viewers.entries()) await rising(`viewer ${index + 1}`, viewer);
    const screen = await page('/');
    await screen.locator('#live .card').filter({hasText: 'door'}).getByText('Live', {exact: true}).waitFor();
    await eventually('the console counts two viewers', async () => (await screen.locator('#sum-viewers').textContent()) === '2');
    await eventually('the console knows the bitrate', async () => /\d/.test(await screen.locator('#sum-rate').textContent()));
    await viewers[0].getByText('Statistics').click();
    await viewers[0].getByText('straight to the server').waitFor();
    await publisher.getByText('straight to the server').waitFor();
    await publisher.screenshot({path: join(shots, 'live-publish.png'), fullPage: true});
    await viewers[0].screenshot({path: join(shots, 'live-watch.png'), fullPage: true});
    await screen.screenshot({path: join(shots, 'live-console.png'), fullPage: true});
    for (const each of [publisher, ...viewers, screen]) assert.deepEqual(each.complaints, []);
  });

  test('a viewer that comes first sees the camera as soon as it starts', async () => {
    const viewer = await page('/watch/early');
    await viewer.getByText('Waiting for the camera').first().waitFor();
    await publish('early');
    await rising('the early viewer', viewer);
  });

  test('the camera leaves and returns, and viewers go on without a reload', async () => {
    const viewer = await page('/watch/leaving');
    const publisher = await publish('leaving');
    await rising('before', viewer);
    await viewer.evaluate(() => (window.mark = document.querySelector('whep-player').player.pc));
    let navigations = 0;
    viewer.on('framenavigated', () => (navigations += 1));
    await publisher.getByRole('button', {name: 'Stop'}).click();
    await eventually('the viewer is told', async () => (await state(viewer)) === 'away');
    await viewer.getByText('Waiting for the camera. The picture goes on by itself.').last().waitFor();
    const {frames: last} = await frames(viewer);
    await publisher.getByRole('button', {name: 'Start'}).click();
    await rising('after', viewer, last);
    await eventually('it says so', async () => (await state(viewer)) === 'playing');
    assert.equal(navigations, 0);
    assert.ok(await viewer.evaluate(() => window.mark === document.querySelector('whep-player').player.pc), 'the same connection went on');
  });

  test('a camera page that vanished without a word takes its place again', async () => {
    const viewer = await page('/watch/vanishing');
    const publisher = await publish('vanishing');
    await rising('before', viewer);
    await publisher.route('**/whip/**', (route) => (route.request().method() === 'DELETE' ? route.abort() : route.continue()));
    const {frames: last} = await frames(viewer);
    await publisher.reload();
    await publisher.getByRole('button', {name: 'Start'}).click();
    await publisher.getByText('You are live').waitFor({timeout: 10_000});
    await rising('after', viewer, last + 30);
  });

  test('a lost connection is mended by an ICE restart, in the same session', async () => {
    await publish('restart');
    const viewer = await page('/watch/restart');
    await rising('before', viewer);
    const patched = viewer.waitForResponse((response) => response.request().method() === 'PATCH');
    // The pair in use bears the name that ICE gave to its round.
    const round = () => viewer.evaluate(() => {
      const {iceTransport} = document.querySelector('whep-player').player.pc.getTransceivers()[0].receiver.transport;
      return iceTransport.getSelectedCandidatePair().local.usernameFragment ?? iceTransport.getLocalParameters().usernameFragment;
    });
    const first = await round();
    let posts = 0;
    viewer.on('request', (request) => (posts += request.method() === 'POST' ? 1 : 0));
    // The browser is made to believe that the path is lost; the restart itself is real.
    await viewer.evaluate(() => {
      const {pc} = document.querySelector('whep-player').player;
      Object.defineProperty(pc, 'connectionState', {configurable: true, get: () => 'failed'});
      pc.dispatchEvent(new Event('connectionstatechange'));
    });
    assert.equal((await patched).status(), 200);
    await viewer.evaluate(() => {
      const {pc} = document.querySelector('whep-player').player;
      delete pc.connectionState;
      pc.dispatchEvent(new Event('connectionstatechange'));
    });
    const {frames: last} = await frames(viewer);
    await rising('after', viewer, last);
    await eventually('it says so', async () => (await state(viewer)) === 'playing');
    await eventually('media takes the new path', async () => (await round()) !== first);
    assert.equal(posts, 0);
  });

  test('the server ends the stream, and the viewer waits for the next one', async () => {
    const publisher = await publish('ending');
    const viewer = await page('/watch/ending');
    await rising('before', viewer);
    await publisher.route('**/whip/**', (route) => (route.request().method() === 'POST' ? route.abort() : route.continue()));
    const {streams} = await (await fetch(`${server.url}/streams?room=ending`)).json();
    assert.equal((await fetch(`${server.url}/streams/${streams[0].id}/end`, {method: 'POST'})).status, 200);
    await eventually('it waits', async () => (await state(viewer)) === 'waiting');
    await publisher.unroute('**/whip/**');
    await eventually('the camera is back by itself', async () => (await state(viewer)) === 'playing', 30);
  });

  test(`from POST to the first frame shown: p50 of ${JOINS} joins over a keyframe interval of 2 s is at most ${FIRST_FRAME} ms`, async () => {
    const {video, audio} = await encoded(files.path, {codec: 'h264', seconds: 10});
    const source = camera(server.url, 'joins', {video, audio});
    open.push(() => source.stop());
    await eventually('the camera is live', async () => (await (await fetch(`${server.url}/streams?room=joins`)).json()).streams.some(({publishing}) => publishing));
    // The test takes the times itself: when `fetch` is called with a POST, and when the element's picture was shown.
    const viewer = await page('/watch/joins', {init: () => {
      const real = window.fetch;
      window.fetch = (...args) => {
        if (args[1]?.method === 'POST') window.posted = performance.now();
        return real(...args);
      };
    }});
    await rising('the camera', viewer);
    const origin = Date.now();
    const joins = [];
    for (let join = 0; join < JOINS; join += 1) {
      // Half an interval and a twentieth later each time: the twenty joins lie at twenty distances from the keyframe before them.
      await new Promise((resolve) => setTimeout(resolve, origin + (join + 1) * (KEYFRAME_INTERVAL / 2 + KEYFRAME_INTERVAL / JOINS) - Date.now()));
      joins.push(await viewer.evaluate(async () => {
        document.querySelector('whep-player')?.remove();
        const player = document.createElement('whep-player');
        window.posted = null;
        player.setAttribute('src', '/whep/joins');
        document.getElementById('screen').append(player);
        const shown = await new Promise((resolve) => player.video.requestVideoFrameCallback((now, frame) => resolve({now: performance.now(), ...frame})));
        const at = performance.timeOrigin + window.posted;
        // What is shown is the camera's picture: its bars have many colours.
        const canvas = Object.assign(document.createElement('canvas'), {width: 16, height: 9});
        const context = canvas.getContext('2d');
        context.drawImage(player.video, 0, 0, 16, 9);
        const {data} = context.getImageData(0, 0, 16, 9);
        const colours = new Set();
        for (let index = 0; index < data.length; index += 4) colours.add([data[index] >> 6, data[index + 1] >> 6, data[index + 2] >> 6].join());
        if (!player.player.timing.firstFrame) await new Promise((resolve) => player.addEventListener('firstframe', resolve, {once: true}));
        const {post, answer, connected, firstFrame} = player.player.timing;
        return {at, firstFrame: shown.now - window.posted, width: shown.width, colours: colours.size, said: firstFrame - post, answer: answer - post, connected: connected - post};
      }));
    }
    const whole = (name) => joins.map((join) => Math.round(join[name]));
    const sorted = whole('firstFrame').sort((a, b) => a - b);
    const p50 = sorted[Math.ceil(JOINS / 2) - 1];
    console.log(`POST to first frame, ms: ${whole('firstFrame').join(' ')}`);
    console.log(`answer ${whole('answer').join(' ')}; connected ${whole('connected').join(' ')}`);
    console.log(`p50 ${p50} ms, p95 ${sorted[Math.ceil(JOINS * 0.95) - 1]} ms`);
    for (const {width, colours, firstFrame, said} of joins) {
      assert.ok(width === 640 && colours >= 5, `a picture of ${width} px and ${colours} colours`);
      assert.ok(Math.abs(firstFrame - said) < 50, `the page says ${said} ms, the test ${firstFrame} ms`);
    }
    const tenths = new Set(joins.map(({at}) => Math.floor((at - joins[0].at + KEYFRAME_INTERVAL * JOINS) % KEYFRAME_INTERVAL / (KEYFRAME_INTERVAL / 10))));
    assert.ok(tenths.size >= 9, `the joins fell into only ${tenths.size} tenths of the interval`);
    assert.ok(p50 <= FIRST_FRAME, `p50 is ${p50} ms`);
  });

  test('two lines put the player into a page of another site', async () => {
    await publish('embedded');
    const html = `<!doctype html><title>Elsewhere</title><script type="module" src="${server.url}/assets/player.js"></script><whep-player src="${server.url}/whep/embedded"></whep-player>`;
    const site = createServer((request, response) => response.writeHead(200, {'Content-Type': 'text/html'}).end(html));
    await new Promise((resolve) => site.listen(0, '127.0.0.1', resolve));
    open.push(() => site.close());
    const elsewhere = await page(`http://127.0.0.1:${site.address().port}/`);
    await rising('the embedded player', elsewhere);
    assert.deepEqual(elsewhere.complaints.filter((each) => !/favicon/.test(each)), []);
  });

  test('where the browser does not start video by itself, one press does', async () => {
    await publish('blocked');
    const viewer = await page('/watch/blocked', {init: () => {
      // What the test evaluates counts as a press for the browser, so the presses are noted here.
      let pressed = false;
      addEventListener('click', () => (pressed = true), true);
      const real = HTMLMediaElement.prototype.play;
      HTMLMediaElement.prototype.play = function play() {
        return pressed ? real.call(this) : Promise.reject(new DOMException('not by itself', 'NotAllowedError'));
      };
      Object.defineProperty(HTMLMediaElement.prototype, 'autoplay', {set() {}});
    }});
    await viewer.getByText('does not start the picture by itself').last().waitFor();
    await viewer.getByRole('button', {name: 'Show the picture'}).click();
    await rising('after the press', viewer);
    const badge = viewer.locator('whep-player .live');
    await badge.filter({hasText: 'Live'}).waitFor();
    await viewer.locator('whep-player').hover();
    await viewer.getByRole('button', {name: 'Pause'}).click();
    await badge.filter({hasText: 'Paused'}).waitFor();
  });

  test('a page that the browser brings back as it was left goes on', async () => {
    const {video} = await encoded(files.path, {codec: 'h264', seconds: 10});
    const source = camera(server.url, 'back', {video});
    open.push(() => source.stop());
    const other = await launch({without: ['--disable-back-forward-cache']});
    open.push(() => other.close());
    const viewer = await other.newPage();
    await viewer.goto(`${server.url}/watch/back`);
    await rising('before', viewer);
    await viewer.evaluate(() => (window.kept = true));
    await viewer.goto(`${server.url}/openapi.json`);
    // What is brought back does not load.
    await viewer.goBack({waitUntil: 'commit'});
    assert.ok(await viewer.evaluate(() => window.kept), 'the browser kept the page');
    await rising('after', viewer);
  });

  test('the watch page plays two channels: each has its own tone', async () => {
    const {video} = await encoded(files.path, {codec: 'h264', seconds: 10});
    const source = camera(server.url, 'stereo', {video, audio: await tones(files.path, {...TONES, seconds: 10})});
    open.push(() => source.stop());
    await eventually('the camera is live', async () => (await (await fetch(`${server.url}/streams?room=stereo`)).json()).streams.some(({publishing}) => publishing));
    assertTones(await listen(await page('/watch/stereo')));

    // The control: a viewer that does not ask for stereo hears both tones in both channels.
    const without = await page('/watch/stereo', {init: () => {
      const real = RTCPeerConnection.prototype.setLocalDescription;
      RTCPeerConnection.prototype.setLocalDescription = function setLocalDescription({type, sdp}) {
        window.asked = sdp.includes(';stereo=1');
        return real.call(this, {type, sdp: sdp.replaceAll(';stereo=1', '')});
      };
    }});
    const mono = await listen(without);
    assert.ok(await without.evaluate(() => window.asked), 'the page asked for stereo');
    for (const {left, right} of Object.values(mono)) assert.ok(Math.abs(left - right) < SEPARATION, `without stereo=1 the tones are ${left} and ${right} dB loud`);
  });

  test('the publish page sends two channels of a source that has two', async () => {
    // The fake microphone has one channel: an oscillator in each channel takes its place.
    await publish('studio', {init: (tones) => {
      const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      navigator.mediaDevices.getUserMedia = async ({video}) => {
        const stream = await real({video});
        const context = new AudioContext({sampleRate: 48_000});
        const merger = context.createChannelMerger(2);
        [tones.left, tones.right].forEach((frequency, channel) => {
          const oscillator = new OscillatorNode(context, {frequency});
          oscillator.connect(new GainNode(context, {gain: 0.25})).connect(merger, 0, channel);
          oscillator.start();
        });
        const sink = new MediaStreamAudioDestinationNode(context);
        merger.connect(sink);
        stream.addTrack(sink.stream.getAudioTracks()[0]);
        return stream;
      };
    }, argument: TONES});
    assertTones(await listen(await page('/watch/studio')));
  });

  test('the microphone is muted and comes back, in the same session', async () => {
    const publisher = await publish('muted');
    const viewer = await page('/watch/muted');
    await rising('the viewer', viewer);
    const {url} = await (await fetch(`${server.url}/streams?room=muted`)).json().then(({streams}) => ({url: streams[0].id}));
    const loudness = () => viewer.evaluate(async () => {
      const {pc} = document.querySelector('whep-player').player;
      const audio = [...(await pc.getStats()).values()].find(({type, kind}) => type === 'inbound-rtp' && kind === 'audio');
      return {energy: audio?.totalAudioEnergy ?? 0, samples: audio?.totalSamplesReceived ?? 0};
    });
    await viewer.getByRole('button', {name: 'Turn the sound on'}).first().click();
    const heard = async (what, loud) => {
      let before = await loudness();
      await eventually(what, async () => {
        const now = await loudness();
        // A second of sound at a time; the fake microphone beeps each second.
        if (now.samples - before.samples < 72_000) return false;
        const energy = now.energy - before.energy;
        before = now;
        return loud ? energy > 1e-4 : energy < 1e-7;
      });
    };
    await heard('it is heard', true);
    await publisher.getByRole('button', {name: 'Mute the microphone'}).click();
    await heard('it is silent', false);
    await publisher.getByRole('button', {name: 'Unmute the microphone'}).click();
    await heard('it is heard again', true);
    const {streams} = await (await fetch(`${server.url}/streams?room=muted`)).json();
    assert.equal(streams[0].id, url);
  });
});
