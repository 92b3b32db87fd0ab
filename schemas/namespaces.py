"""The XML namespaces mixpam speaks, each named once."""

CLIENT = "jabber:client"
COMPONENT = "jabber:component:accept"
STREAMS = "http://etherx.jabber.org/streams"
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
XML = "http://www.w3.org/XML/1998/namespace"

ROSTER = "jabber:iq:roster"
VERSION = "jabber:iq:version"
PING = "urn:xmpp:ping"
DISCO_INFO = "http://jabber.org/protocol/disco#info"
DISCO_ITEMS = "http://jabber.org/protocol/disco#items"
COMMANDS = "http://jabber.org/protocol/commands"
DATA = "jabber:x:data"
CAPS = "http://jabber.org/protocol/caps"
CAPS2 = "urn:xmpp:caps"
PUBSUB = "http://jabber.org/protocol/pubsub"
PUBSUB_EVENT = "http://jabber.org/protocol/pubsub#event"
FORWARD = "urn:xmpp:forward:0"
STANZA_ID = "urn:xmpp:sid:0"
ADDRESSES = "http://jabber.org/protocol/address"

MIX_CORE = ("urn:xmpp:mix:core:0", "urn:xmpp:mix:core:1")
MIX_PAM = ("urn:xmpp:mix:pam:0", "urn:xmpp:mix:pam:1", "urn:xmpp:mix:pam:2")
MIX_ANON = "urn:xmpp:mix:anon:0"
MIX_ROSTER = "urn:xmpp:mix:roster:0"
MIX_PRESENCE = "urn:xmpp:mix:presence:0"
MIX_NODES = "urn:xmpp:mix:nodes:"

TAP = "mixpam:tap:1"
