/** The pages in Chromium behind a proxy that has the server below a path: one that passes the path on, one that removes it. */
import assert from 'node:assert/strict';
import {createHmac} from 'node:crypto';
import {once} from 'node:events';
import {createServer, request as ask} from 'node:http';
import {after, before, describe, test} from 'node:test';
import {complaints, eventually, folder, launch, movingPicture} from '../browser.js';
import {start} from '../server.js';

const SECRET = '0123456789abcdef0123456789abcdef';
const session = (http) => `apiVersion: media.streamsession.io/v1alpha1
kind: StreamSession
metadata:
  name: browser-tests
spec:
  exposure: {type: ClusterIP}
  http: ${JSON.stringify(http)}
  recording: {enabled: true, segmentDuration: 2s}
  auth: {mode: JWT}
`;

/** A bearer token for everything. */
function bearer() {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const signed = `${encode({alg: 'HS256', typ: 'JWT'})}.${encode({sub: 'test', scope: 'admin publish subscribe', room: '*', exp: now + 3600})}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

/** A proxy that has `target` below /cams and nothing else; `outside` lists what was requested elsewhere. */
async function below(target, strips) {
  const outside = [];
  const proxy = createServer((incoming, outgoing) => {
    if (!/^\/cams(\/|$)/.test(incoming.url)) {
      if (incoming.url !== '/favicon.ico') outside.push(incoming.url);
      return outgoing.writeHead(404).end();
    }
    const path = strips ? incoming.url.slice('/cams'.length) || '/' : incoming.url;
    const headers = {...incoming.headers, ...(strips ? {'x-forwarded-prefix': '/cams'} : {})};
    const passed = ask(new URL(path, target), {method: incoming.method, headers}, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    });
    passed.on('error', () => outgoing.destroy());
    outgoing.on('close', () => passed.destroy());
    return incoming.pipe(passed);
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {url: `http://127.0.0.1:${proxy.address().port}/cams`, outside, stop: () => {
    proxy.closeAllConnections();
    proxy.close();
  }};
}

describe('behind a proxy', () => {
  let browser;
  let files;

  before(async () => {
    files = await folder();
    browser = await launch({camera: await movingPicture(files.path)});
  });

  after(async () => {
    await browser?.close();
    await files?.clean();
  });

  for (const [name, strips, http] of [
    ['that passes the path on', false, {basePath: '/cams'}],
    ['that removes the path', true, {trustedProxies: ['127.0.0.0/8']}],
  ]) {
    test(`${name}, pages publish, watch and play recordings`, async () => {
      const server = await start({session: session(http), env: {MEDIA_JWT_SECRET: SECRET}});
      const proxy = await below(server.url, strips);
      const context = await browser.newContext({viewport: {width: 1280, height: 900}, permissions: ['camera', 'microphone']});
      const requested = [];
      context.on('request', (request) => requested.push(request.url()));
      const open = async (path) => {
        const page = await context.newPage();
        page.complaints = complaints(page);
        await page.goto(`${proxy.url}${path}#token=${bearer()}`);
        return page;
      };
      try {
        const publisher = await open('/publish/door');
        await publisher.getByRole('button', {name: 'Start'}).click();
        await publisher.getByText('You are live').waitFor({timeout: 20_000});
        const viewer = await open('/watch/door');
        await eventually('a picture', () => viewer.evaluate(() => document.querySelector('whep-player').video.videoWidth > 0), 20);
        await eventually('seconds are recorded', async () => viewer.evaluate(() => document.querySelector('whep-player').video.currentTime > 4), 20);
        const console = await open('/');
        await console.getByRole('link', {name: 'Watch door'}).waitFor();
        assert.equal(await console.getByRole('link', {name: 'Watch door'}).getAttribute('href'), `${proxy.url}/watch/door`);
        await publisher.getByRole('button', {name: 'Stop'}).click();
        await console.getByRole('button', {name: 'End the stream'}).click();
        await console.getByRole('button', {name: 'End the stream', exact: true}).click();
        const row = console.locator('#recording-list li').filter({hasText: 'door'});
        await row.getByText('Complete').waitFor({timeout: 20_000});
        await row.getByRole('button', {name: 'Play'}).click();
        await eventually('the recording plays', () => console.evaluate(() => document.getElementById('recording-video').currentTime > 0.5), 20);
        const download = console.getByRole('link', {name: 'Download recording.mp4'});
        await eventually('the link has a media token', async () => /\?media_token=/.test(await download.getAttribute('href')));
        assert.ok(requested.some((url) => url.includes('/cams/recordings/') && url.includes('.mp4?media_token=')), requested.join('\n'));
        assert.deepEqual(requested.filter((url) => url.includes('access_token') || url.includes(bearer().slice(0, 40))), []);
        for (const page of [publisher, viewer, console]) assert.deepEqual(page.complaints, []);
        assert.deepEqual(proxy.outside, []);
      } finally {
        await context.close();
        proxy.stop();
        await server.stop();
      }
    });
  }
});
