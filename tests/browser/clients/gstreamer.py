"""A WHIP publisher or WHEP viewer of GStreamer's webrtcbin, with its defaults: before 1.28 an RSA certificate, and no
feedback but what it offers by itself. WHIP and WHEP are one POST and one DELETE.

    gstreamer.py publish|watch URL SECONDS     prints what came of it as JSON
"""
import json
import sys
import urllib.error
import urllib.parse
import urllib.request

import gi

for name in ["Gst", "GstWebRTC", "GstSdp"]:
    gi.require_version(name, "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

CONNECT_LIMIT = 20
PUBLISH = """
webrtcbin name=peer bundle-policy=max-bundle
videotestsrc is-live=true ! video/x-raw,width=640,height=360,framerate=30/1 ! videoconvert
  ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=60 bitrate=1000 ! video/x-h264,profile=constrained-baseline
  ! rtph264pay config-interval=-1 aggregate-mode=zero-latency ! application/x-rtp,media=video,encoding-name=H264,payload=96 ! peer.
audiotestsrc is-live=true ! audioconvert ! audioresample ! opusenc ! rtpopuspay
  ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! peer.
"""


class Client:
    def __init__(self, role, url, seconds):
        self.role, self.url, self.seconds = role, url, seconds
        self.result = {"gstreamer": Gst.version_string(), "role": role, "connection": "new", "frames": 0, "samples": 0}
        self.session, self.loop, self.code = None, GLib.MainLoop(), 1
        if role == "publish":
            self.pipeline = Gst.parse_launch(PUBLISH)
            self.peer = self.pipeline.get_by_name("peer")
        else:
            self.pipeline = Gst.Pipeline.new()
            self.peer = Gst.ElementFactory.make("webrtcbin", "peer")
            self.peer.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
            self.pipeline.add(self.peer)
        # In the main loop: webrtcbin's own thread makes the offer that is waited for.
        self.peer.connect("on-negotiation-needed", lambda peer: GLib.idle_add(self.offer, peer))
        self.peer.connect("notify::ice-gathering-state", self.gathered)
        self.peer.connect("notify::connection-state", self.connection)
        self.peer.connect("pad-added", self.receive)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", lambda _, message: self.end(message.parse_error()[0].message))

    def run(self):
        if self.role == "watch":
            for caps in ["application/x-rtp,media=video,encoding-name=H264,clock-rate=90000,payload=96",
                         "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,encoding-params=(string)2,payload=97"]:
                self.peer.emit("add-transceiver", GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY, Gst.Caps.from_string(caps))
        self.pipeline.set_state(Gst.State.PLAYING)
        GLib.timeout_add_seconds(CONNECT_LIMIT, self.give_up)
        self.loop.run()
        if self.session:
            try:
                urllib.request.urlopen(urllib.request.Request(self.session, method="DELETE"), timeout=10)
            except urllib.error.HTTPError as error:
                self.result["delete"] = error.code
        self.pipeline.set_state(Gst.State.NULL)
        print(json.dumps(self.result))
        return self.code

    def offer(self, peer):
        made = Gst.Promise.new()
        peer.emit("create-offer", None, made)
        made.wait()
        # The reply owns the description: it stays referenced until the description is set.
        self.reply = made.get_reply()
        peer.emit("set-local-description", self.reply.get_value("offer"), None)

    def gathered(self, peer, _):
        if peer.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE and not self.session:
            GLib.idle_add(self.post, peer.get_property("local-description").sdp.as_text())

    def post(self, offer):
        self.result["offer"] = offer
        request = urllib.request.Request(self.url, offer.encode(), {"Content-Type": "application/sdp"}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                self.session = urllib.parse.urljoin(self.url, answer.headers["Location"])
                text = answer.read()
        except urllib.error.HTTPError as error:
            self.end(f"{error.code}: {error.read().decode()}")
            return
        self.result["answer"] = text.decode()
        _, message = GstSdp.SDPMessage.new_from_text(text.decode())
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self.peer.emit("set-remote-description", answer, None)

    def connection(self, peer, _):
        state = peer.get_property("connection-state").value_nick
        self.result["connection"] = state
        if state == "connected":
            GLib.timeout_add(int(self.seconds * 1000), self.done)
        elif state == "failed":
            self.end("the connection failed")

    def receive(self, _, pad):
        if pad.direction != Gst.PadDirection.SRC:
            return
        video = pad.get_current_caps().get_structure(0).get_value("media") == "video"
        tail = "rtph264depay ! h264parse ! openh264dec" if video else "rtpopusdepay ! opusdec"
        branch = Gst.parse_bin_from_description(f"queue ! {tail} ! fakesink name=sink signal-handoffs=true sync=false async=false", True)
        key = "frames" if video else "samples"

        def count(_sink, buffer, _pad):
            self.result[key] += 1 if video else buffer.get_size() // 4
        branch.get_by_name("sink").connect("handoff", count)
        self.pipeline.add(branch)
        branch.sync_state_with_parent()
        pad.link(branch.get_static_pad("sink"))

    def done(self):
        self.code = 0
        self.loop.quit()

    def give_up(self):
        if self.result["connection"] != "connected":
            self.end(f"not connected within {CONNECT_LIMIT} s")

    def end(self, error):
        self.result["error"] = error
        self.loop.quit()


Gst.init(None)
sys.exit(Client(sys.argv[1], sys.argv[2], float(sys.argv[3])).run())
