/**
 * Publishes encoded frames by WHIP (RFC 9725). Send time and RTP timestamp of each frame are set by the test, so that any frame pattern
 * can be sent. The transport is werift's.
 */
import {randomInt} from 'node:crypto';
import {setTimeout as sleep} from 'node:timers/promises';
import {MediaStreamTrack, RTCPeerConnection, RTCRtpCodecParameters, RtcpSenderInfo, RtcpSrPacket, RtpHeader, RtpPacket} from 'werift';
import {payloads} from './packetize.js';

/** Milliseconds between sender reports, the first of which follows the first frame. */
const REPORTS = 1000;
/** Seconds from 1900, where NTP begins, to 1970. */
const NTP_EPOCH = 2_208_988_800;
/** Milliseconds that the last packets may take. */
const FLIGHT = 200;
/** Milliseconds by which a frame may leave late: beyond that the recording is not of what was to be sent. */
const LATE = 500;
/** Seconds within which the connection stands. */
const CONNECTED = 10;

const feedback = [{type: 'nack'}, {type: 'nack', parameter: 'pli'}];
const video = (mimeType, payloadType, parameters) => new RTCRtpCodecParameters({mimeType, clockRate: 90_000, payloadType, parameters, rtcpFeedback: feedback});
const FORMATS = {
  h264: video('video/H264', 102, 'level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f'),
  vp8: video('video/VP8', 96),
  vp9: video('video/VP9', 98, 'profile-id=0'),
  av1: video('video/AV1', 45),
  opus: new RTCRtpCodecParameters({mimeType: 'audio/opus', clockRate: 48_000, channels: 2, payloadType: 111}),
};

/**
 * Publishes tracks of frames `{codec, data, key, pts, at}`, in seconds from the start, and returns when the last has left and the
 * session is ended. A change of codec within a track changes the payload type, as a browser does.
 */
export async function publish(url, {pictures = [], sounds = []}) {
  const codecs = [...new Set(pictures.map(({codec}) => FORMATS[codec]))];
  const peer = new RTCPeerConnection({codecs: {video: codecs, audio: [FORMATS.opus]}, iceServers: [], bundlePolicy: 'max-bundle', iceAdditionalHostAddresses: ['127.0.0.1'], iceUseIpv6: false});
  const tracks = [['video', 90_000, pictures], ['audio', 48_000, sounds]].filter(([, , frames]) => frames.length > 0).map(([kind, rate, frames]) => {
    const {sender} = peer.addTransceiver(new MediaStreamTrack({kind}), {direction: 'sendonly'});
    // Its reports are by arrival, which is not where the timestamps of reordered frames are.
    sender.runRtcp = async () => {};
    return {sender, rate, frames, base: randomInt(2 ** 32), sequence: randomInt(2 ** 16), packets: 0, octets: 0};
  });
  await peer.setLocalDescription(await peer.createOffer());
  const answer = await fetch(url, {method: 'POST', headers: {'content-type': 'application/sdp'}, body: peer.localDescription.sdp});
  if (answer.status !== 201) throw new Error(`POST ${url}: ${answer.status} ${await answer.text()}`);
  const session = new URL(answer.headers.get('location'), url);
  try {
    await peer.setRemoteDescription({type: 'answer', sdp: await answer.text()});
    await connected(peer);
    const start = Date.now() + 100;
    await Promise.all(tracks.map((track) => send(track, start)));
    // The last packets arrive before the session ends.
    await sleep(FLIGHT);
  } finally {
    await fetch(session, {method: 'DELETE'});
    await peer.close();
  }
}

async function connected(peer) {
  for (const deadline = Date.now() + CONNECTED * 1000; peer.connectionState !== 'connected'; await sleep(20)) {
    if (Date.now() > deadline) throw new Error(`not within ${CONNECTED} s: the publisher is connected; it is ${peer.connectionState}`);
  }
}

async function send(track, start) {
  let reported = -Infinity;
  for (const [picture, frame] of track.frames.entries()) {
    const due = start + frame.at * 1000;
    await sleep(Math.max(0, due - Date.now()));
    if (Date.now() > due + LATE) throw new Error(`a frame leaves ${Date.now() - due} ms late: the machine is too slow for this test`);
    track.sender.codec = {...track.sender.codec, payloadType: FORMATS[frame.codec].payloadType};
    const timestamp = ticks(track, frame.pts);
    const parts = payloads(frame, picture);
    for (const [index, payload] of parts.entries()) {
      const marker = frame.codec !== 'opus' && index === parts.length - 1;
      const header = new RtpHeader({timestamp, sequenceNumber: track.sequence, marker, payloadType: FORMATS[frame.codec].payloadType});
      track.sequence = (track.sequence + 1) & 0xffff;
      track.packets += 1;
      track.octets += payload.length;
      await track.sender.sendRtp(new RtpPacket(header, payload));
    }
    if (Date.now() >= reported + REPORTS) {
      await report(track, start);
      reported = Date.now();
    }
  }
}

/** A sender report (RFC 3550 §6.4.1): wall clock and timestamp of now. */
async function report(track, start) {
  const now = Date.now();
  const ntp = BigInt(Math.round((now / 1000 + NTP_EPOCH) * 1000)) * 2n ** 32n / 1000n;
  const senderInfo = new RtcpSenderInfo({ntpTimestamp: ntp, rtpTimestamp: ticks(track, (now - start) / 1000), packetCount: track.packets, octetCount: track.octets});
  await track.sender.dtlsTransport.sendRtcp([new RtcpSrPacket({ssrc: track.sender.ssrc, senderInfo})]);
}

function ticks({base, rate}, seconds) {
  return (base + Math.round(seconds * rate)) % 2 ** 32;
}
