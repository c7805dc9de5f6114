// What ImapFlow, an IMAP client for Node, sees of a server. Usage: node imapflow.cjs SCENARIO, with PORT, CA,
// IMAP_USER and IMAP_PASSWORD in the environment; prints one JSON document.
"use strict";

const { once } = require("node:events");
const { readFileSync } = require("node:fs");
const { ImapFlow } = require("imapflow");

const { PORT, IMAP_USER, IMAP_PASSWORD, CA } = process.env;

async function connect(said = []) {
  const hear = (entry) => entry.src === "c" && said.push(entry.msg);
  const client = new ImapFlow({
    host: "localhost",
    port: Number(PORT),
    secure: true,
    tls: { ca: readFileSync(CA) },
    auth: { user: IMAP_USER, pass: IMAP_PASSWORD },
    qresync: true,
    logger: { trace: hear, debug: hear, info: hear, warn: hear, error: hear },
  });
  await client.connect();
  return client;
}

const mail = (subject, text = "x") => Buffer.from(`Subject: ${subject}\r\n\r\n${text}\r\n`);

const range = async (found) => {
  const all = [];
  for await (const message of found) all.push(message);
  return all;
};

const SCENARIOS = {
  async house() {
    const said = [];
    const client = await connect(said);
    for (const path of ["Büro", "Büro/Ablage", "Sent"]) await client.mailboxCreate(path);
    await client.mailboxSubscribe("Büro/Ablage");
    const tree = await client.listTree();
    const list = await client.list({ statusQuery: { messages: true, uidNext: true } });
    const when = new Date("2024-02-29T23:59:58Z");
    const appended = await client.append("Büro", mail("first"), ["\\Seen", "$Label1"], when);
    const large = "0123456789abcdef".repeat(1 << 16);
    for (const text of ["ä Größe", large]) await client.append("Büro", mail("more", text));
    const status = await client.status("Büro", { messages: true, unseen: true, uidNext: true, highestModseq: true });
    const lock = await client.getMailboxLock("Büro");
    const found = {
      unseen: await client.search({ seen: false }, { uid: true }),
      text: await client.search({ body: "GRÖßE" }, { uid: true }),
      either: await client.search({ or: [{ subject: "first" }, { larger: 100000 }], not: { deleted: true } }, { uid: true }),
      keyword: await client.search({ keyword: "$Label1", before: new Date("2024-03-01T00:00:00Z") }, { uid: true }),
    };
    const query = { flags: true, envelope: true, bodyStructure: true, internalDate: true, size: true, source: true };
    const messages = await range(client.fetch("1:*", query));
    const download = await client.download("3", "1");
    let octets = 0;
    for await (const piece of download.content) octets += piece.length;
    const flagged = await client.messageFlagsAdd("1:2", ["\\Flagged"]);
    const moved = await client.messageMove("1,3", "Büro/Ablage", { uid: true });
    const copied = await client.messageCopy("2", "Sent", { uid: true });
    const deleted = await client.messageDelete("2", { uid: true });
    const left = client.mailbox.exists;
    lock.release();
    await client.mailboxRename("Büro", "Office");
    const renamed = (await client.list()).map((folder) => folder.path);
    for (const path of ["Office/Ablage", "Office", "Sent"]) await client.mailboxDelete(path);
    const enabled = [...client.enabled];
    await client.logout();
    return {
      said, enabled, found, flagged, deleted, left, renamed, octets, appended, status,
      tree: tree.folders.map((folder) => [folder.path, (folder.folders || []).map((inner) => inner.path)]),
      list: list.map(({ path, specialUse, subscribed, status }) => ({ path, specialUse, subscribed, status })),
      moved: [...moved.uidMap], copied: [...copied.uidMap],
      messages: messages.map((message) => ({
        seq: message.seq, uid: message.uid, size: message.size, flags: [...message.flags], date: message.internalDate,
        subject: message.envelope.subject, type: message.bodyStructure.type, length: message.source.length,
        emailId: message.emailId,
      })),
      large: large.length,
    };
  },

  async quota() {
    const client = await connect();
    const quota = await client.getQuota("INBOX");
    await client.logout();
    return quota;
  },

  async resync() {
    const client = await connect();
    await client.mailboxCreate("away");
    for (let number = 1; number <= 9; number++) await client.append("away", mail(number));
    const { uidValidity, highestModseq } = await client.mailboxOpen("away");
    await client.mailboxClose();

    const other = await connect();
    await other.mailboxOpen("away");
    await other.messageFlagsAdd("2,5", ["\\Flagged"], { uid: true });
    await other.messageDelete("3:4,9", { uid: true });
    await other.append("away", mail("new"));
    await other.logout();

    const events = [];
    client.on("expunge", ({ uid, earlier }) => events.push(["expunge", uid, earlier]));
    client.on("flags", ({ uid, flags }) => events.push(["flags", uid, [...flags].sort()]));
    const opened = await client.mailboxOpen("away", { changedSince: highestModseq, uidValidity });
    const changed = await range(client.fetch("1:*", { flags: true }, { uid: true, changedSince: highestModseq }));
    await client.mailboxDelete("away");
    await client.logout();
    const later = opened.highestModseq > highestModseq;
    return { events, later, qresync: opened.qresync, exists: opened.exists, changed: changed.map(({ uid }) => uid) };
  },

  async idle() {
    const client = await connect();
    const other = await connect();
    await client.mailboxCreate("watched");
    await client.mailboxOpen("watched");
    const idling = client.idle();
    const seen = [];
    const next = async (event, act) => {
      const [[told]] = await Promise.all([once(client, event), act()]);
      seen.push([event, told.count ?? told.uid, told.flags ? [...told.flags].sort() : null]);
    };
    await next("exists", () => other.append("watched", mail("one")));
    await other.mailboxOpen("watched");
    await next("flags", () => other.messageFlagsAdd("1", ["\\Flagged"]));
    await next("expunge", () => other.messageDelete("1"));
    await client.noop();
    await idling;
    await client.mailboxDelete("watched");
    await Promise.all([client.logout(), other.logout()]);
    return seen;
  },
};

const plain = (key, value) => (typeof value === "bigint" ? Number(value) : value);

SCENARIOS[process.argv[2]]().then(
  (result) => console.log(JSON.stringify(result, plain)),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
