/** Recordings that the server made of what was published: their addresses, their files, and what is in them. */
import {writeFile} from 'node:fs/promises';
import {join} from 'node:path';
import {eventually} from '../browser.js';
import {publish} from './publisher.js';

/** Seconds within which a recording is finished after its stream has ended. */
const FINISHED = 20;

/** A server's document for these tests: `recording` in YAML, `publishers` at a time. */
export const session = (recording, publishers) => `apiVersion: media.streamsession.io/v1alpha1
kind: StreamSession
metadata:
  name: players
spec:
  exposure: {type: ClusterIP}
  limits: {maxPublishers: ${publishers}, maxSubscribersPerRoom: 4}
  recording: ${recording}
  auth: {mode: Open}
`;

/** Publishes these tracks one after the other into a room, ends its stream, and waits for its recordings, the oldest first. */
export async function record(server, room, ...publishers) {
  for (const tracks of publishers) await publish(`${server.url}/whip/${room}`, tracks);
  const {streams} = await json(server, `/streams?room=${room}`);
  const ended = await fetch(`${server.url}/streams/${streams[0].id}/end`, {method: 'POST'});
  if (!ended.ok) throw new Error(`the stream of ${room} cannot be ended: ${ended.status} ${await ended.text()}`);
  const complete = await eventually(`${room} is recorded`, async () => {
    const {recordings} = await json(server, `/recordings?room=${room}`);
    if (recordings.some(({state}) => state !== 'complete')) throw new Error(JSON.stringify(recordings));
    return recordings.length > 0 && recordings;
  }, FINISHED);
  const views = await Promise.all(complete.map(({id}) => json(server, `/recordings/${id}`)));
  return views.sort((a, b) => a.startedAt.localeCompare(b.startedAt)).map((view) => ({
    ...view,
    playlist: `${server.url}/recordings/${view.id}/index.m3u8`,
    files: view.files.map(({url, ...file}) => ({...file, url: new URL(url, server.url).href})),
  }));
}

/** Saves what is at an address into a directory: `{path, bytes}`. */
export async function save(directory, name, url) {
  const answer = await fetch(url);
  if (answer.status !== 200) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
  const path = join(directory, name);
  const bytes = Buffer.from(await answer.arrayBuffer());
  await writeFile(path, bytes);
  return {path, bytes};
}

/** The bytes of a playlist's init segments and segments, in order, as one file. */
export async function concatenated(playlist) {
  const text = await (await fetch(playlist)).text();
  const names = text.split('\n').map((line) => /^#EXT-X-MAP:URI="(.*)"$/.exec(line)?.[1] ?? line).filter((line) => line !== '' && !line.startsWith('#'));
  const parts = await Promise.all(names.map(async (name) => Buffer.from(await (await fetch(new URL(name, playlist))).arrayBuffer())));
  return Buffer.concat(parts);
}

async function json(server, path) {
  const answer = await fetch(server.url + path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}
