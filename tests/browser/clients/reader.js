/**
 * Runs in the page: a WHEP viewer that opens a data channel in addition to its media, as MediaMTX's reader does. Its offer has an
 * application section, and codecs that we lack in addition to ours.
 */
export async function readWithDataChannel(url) {
  const pc = new RTCPeerConnection();
  const video = document.createElement('video');
  video.muted = true;
  video.autoplay = true;
  video.srcObject = new MediaStream();
  document.body.append(video);
  pc.ontrack = ({track}) => video.srcObject.addTrack(track);
  pc.addTransceiver('video', {direction: 'recvonly'});
  pc.addTransceiver('audio', {direction: 'recvonly'});
  const channel = pc.createDataChannel('');
  await pc.setLocalDescription(await pc.createOffer());
  const answer = await fetch(url, {method: 'POST', headers: {'Content-Type': 'application/sdp'}, body: pc.localDescription.sdp});
  const text = await answer.text();
  if (answer.status !== 201) throw new Error(`${answer.status}: ${text}`);
  await pc.setRemoteDescription({type: 'answer', sdp: text});
  window.reader = {pc, video, channel, answer: text};
}
