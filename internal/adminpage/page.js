// The page of the admin API: what the proxy does as it happens, the questions that
// wait for an answer, and the few things that can be changed while it runs.
//
// Host names, commands, labels and reasons come from programs that are not trusted.
// They enter the page as text only, through show and clean.

'use strict';

// Bounds of what the page keeps.
const maxRows = 500; // in the document
const maxRecords = 5000; // in memory, for the filters
const maxRules = 200; // of each list in the document
const maxChoices = 200; // in the lists of sessions and groups

// Times in milliseconds.
const pollInterval = 2000;
const requestTimeout = 15000;
const silence = 40000; // of the stream, which has a heartbeat every 15 s
const maxBackoff = 15000;
const frameInterval = 80; // between two renderings of requests, at least
const idleShare = 3; // how much longer than a rendering the time after it is
const armingTime = 600; // until the buttons of a question that appeared or moved accept a click
const lingering = 5000; // of an answered question
const binWidth = 5000; // of the charts
const bins = 60;

const outcomes = ['allowed', 'refused', 'asked', 'failed', 'cut', 'changes'];
const byID = (id) => document.getElementById(id);

// Text.

// hidden are characters that are invisible or that change how the text around them is
// shown: controls, zero-width characters, and those that set a direction.
const hidden = /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/gu;

// stacked are marks on one letter beyond those that languages need. They would be drawn
// over the text around them.
const stacked = /(\p{M}{3})\p{M}+/gu;

// clean returns a value as text of bounded length in which every hidden character is
// written as an escape, such as \u202e.
function clean(value, limit = 300) {
  let text = String(value ?? '');
  if (text.length > limit) text = text.slice(0, limit) + '…';
  return text.replace(stacked, '$1').replace(hidden, (c) => c === '\n' ? '\\n' : c === '\t' ? '\\t' : '\\u' + c.codePointAt(0).toString(16).padStart(4, '0'));
}

// show makes value the text of a node, if it is not. The title has more of a long value.
function show(node, value, limit) {
  const text = clean(value, limit);
  if (node.textContent !== text) node.textContent = text;
  return node;
}

function showWithTitle(node, value) {
  show(node, value);
  const title = clean(value, 2000);
  if (node.title !== title) node.title = title;
  return node;
}

// element makes an element with a class and children: nodes, or text.
function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  for (const child of children) node.append(child instanceof Node ? child : clean(child));
  return node;
}

// alien makes an element for text that others wrote.
function alien(className, value, tag = 'span') {
  const node = element(tag, 'alien ' + className);
  node.dir = 'ltr';
  return value === undefined ? node : showWithTitle(node, value);
}

const grouped = new Intl.NumberFormat('en');
const number = (n) => grouped.format(n || 0);
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const plural = (n, one, many = one + 's') => `${number(n)} ${n === 1 ? one : many}`;

function bytes(n) {
  if (!n) return '0 B';
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let i = 0;
  while (n >= 999.5 && i < units.length - 1) {
    n /= 1000;
    i++;
  }
  return `${i === 0 || n >= 99.5 ? Math.round(n) : n.toPrecision(n >= 9.95 ? 3 : 2)} ${units[i]}`;
}

function duration(ms) {
  if (ms < 1) return '<1 ms';
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 59950) return `${(ms / 1000).toFixed(1)} s`;
  const s = Math.round(ms / 1000);
  return s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
}

// seconds returns a duration of people's time.
function seconds(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  return s < 100 ? `${s} s` : duration(1000 * s);
}

// target returns the host and port that an event, a question or a grant is about.
function target(v) {
  if (v.unix_socket) return v.unix_socket;
  if (!v.host) return '';
  return hostText(v.host) + (v.port ? ':' + v.port : '');
}

const hostText = (host) => host.includes(':') ? `[${host}]` : host;

// place returns where an entry of the rules is written: file:line:column.
function place(origin) {
  if (!origin || !origin.file) return '';
  return origin.file + (origin.line ? ':' + origin.line + (origin.column ? ':' + origin.column : '') : '');
}

function labelText(labels) {
  return Object.entries(labels || {}).map(([k, v]) => `${k}=${v}`).join(', ');
}

// Messages.

let messageTimer = 0;

// tell shows the result of an action. Good news goes away by itself.
function tell(text, bad = false) {
  clearTimeout(messageTimer);
  byID('message').hidden = false;
  byID('message').dataset.bad = bad;
  show(byID('message-text'), text, 1000);
  if (!bad) messageTimer = setTimeout(() => { byID('message').hidden = true; }, 8000);
}

byID('dismiss').addEventListener('click', () => { byID('message').hidden = true; });

// announce tells users of screen readers.
function announce(text) {
  byID('announce').textContent = clean(text);
}

// The API and its token.

class APIError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

const tokenKey = 'networkproxy-token';
let token = remembered();
let locked = false; // a GET was refused without a token
let unlock = () => {}; // wakes the stream

// remembered returns the token of this tab. A browser can be set to store nothing.
function remembered() {
  try {
    return sessionStorage.getItem(tokenKey) || '';
  } catch {
    return '';
  }
}

function remember() {
  try {
    sessionStorage.setItem(tokenKey, token);
  } catch {
    // The token is valid until the page is loaded again.
  }
}

function headers(more) {
  return token ? { ...more, Authorization: 'Bearer ' + token } : more;
}

// call sends a request and returns the value of the response. With a body it is a POST.
async function call(path, body) {
  const options = { headers: headers({}), cache: 'no-store', redirect: 'error', signal: AbortSignal.timeout(requestTimeout) };
  if (body !== undefined) {
    options.method = 'POST';
    options.headers['Content-Type'] = 'application/json';
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options);
  return readAnswer(response, body !== undefined || path === '/login');
}

async function readAnswer(response, changes) {
  const text = await response.text();
  let value = null;
  try {
    value = JSON.parse(text);
  } catch {
    // The status says enough.
  }
  if (response.ok) return value;
  const problem = new APIError(response.status, value?.error || `The proxy answered with status ${response.status}.`);
  if (response.status === 401) askForToken(problem.message, !changes);
  throw problem;
}

function askForToken(text, lock) {
  const form = byID('login');
  const appears = form.hidden;
  if (lock) locked = true;
  form.hidden = false;
  show(byID('login-text'), token ? 'The token is not accepted. ' + text : text, 1000);
  if (appears && (document.activeElement === document.body || lock)) byID('token').focus();
}

function useToken(text) {
  token = text;
  remember();
  byID('login').hidden = true;
  locked = false;
  unlock();
  refreshAll();
}

byID('login').addEventListener('submit', (e) => {
  e.preventDefault();
  const input = byID('token');
  const text = input.value.trim();
  input.value = '';
  if (text) useToken(text);
});

// logIn exchanges the code in the address of the page for the token. The code leaves
// the address bar and the history before anything else happens.
async function logIn() {
  const code = /^#code=(.+)$/.exec(location.hash)?.[1];
  if (!code) return;
  history.replaceState(null, '', location.pathname);
  try {
    const value = await call('/login', { code: decodeURIComponent(code) });
    useToken(value.token);
  } catch (e) {
    askForToken(e.message, false);
  }
}

addEventListener('hashchange', logIn);

// change sends a POST and shows what went wrong. It returns undefined then.
async function change(path, body, what) {
  try {
    return await call(path, body);
  } catch (e) {
    tell(`${what}: ${e.message}`, true);
    return undefined;
  }
}

// Lists whose elements stay the same while their content changes.

// reconcile makes the children of parent those of items, by their keys. Elements that
// stay are not moved, so that the focus and the selection stay as well.
function reconcile(parent, items, key, create, update) {
  const known = parent.items ??= new Map();
  const wanted = new Set(items.map(key));
  for (const [k, node] of known) {
    if (wanted.has(k)) continue;
    known.delete(k);
    removeKeepingFocus(node);
  }
  let next = parent.firstElementChild;
  for (const item of items) {
    const k = key(item);
    let node = known.get(k);
    if (!node) {
      node = create(item);
      known.set(k, node);
    }
    update(node, item);
    if (node === next) next = next.nextElementSibling;
    else parent.insertBefore(node, next);
  }
}

// removeKeepingFocus removes a node. If it has the focus, the next one of the list gets
// it, or the heading of the list.
function removeKeepingFocus(node) {
  if (node.contains(document.activeElement)) {
    const near = node.nextElementSibling || node.previousElementSibling;
    const heir = near?.querySelector('button:not(:disabled)') || node.closest('section')?.querySelector('[tabindex="-1"]');
    node.remove();
    heir?.focus({ preventScroll: true });
    return;
  }
  node.remove();
}

// resource returns a function that fetches a path and applies the value. While it runs,
// further calls lead to one more run.
const problems = new Map(); // path to text

function resource(path, apply) {
  let running = false;
  let again = false;
  return async () => {
    if (locked) return;
    if (running) {
      again = true;
      return;
    }
    running = true;
    do {
      again = false;
      try {
        apply(await call(path));
        problems.delete(path);
      } catch (e) {
        if (e instanceof APIError && e.status !== 401) problems.set(path, `${path}: ${e.message}`);
      }
    } while (again && !locked);
    running = false;
    showProblems();
  };
}

const timers = new Map();

// soon calls f once after a short while, however often it is asked to.
function soon(f, delay = 150) {
  if (!timers.has(f)) timers.set(f, setTimeout(() => { timers.delete(f); f(); }, delay));
}

// Health, configuration and mode.

let health = null;
let config = null;
let readOnly = false;
let counters = null; // of the last sample, with its time

const refreshHealth = resource('/health', (h) => {
  if (!health || health.generation !== h.generation) {
    refreshRules();
    refreshConfig();
  }
  health = h;
  const pill = byID('state');
  pill.hidden = false;
  pill.dataset.state = h.status;
  show(pill, h.status);
  for (const id of ['mode-limited', 'mode-full']) {
    const button = byID(id);
    button.setAttribute('aria-pressed', String(button.dataset.mode === h.mode));
  }
  sampleCounters(h);
  showAbout();
});

const refreshConfig = resource('/config', (c) => {
  config = c;
  readOnly = Boolean(c.network_proxy?.admin_read_only);
  byID('read-only').hidden = !readOnly;
  for (const id of ['mode-limited', 'mode-full', 'reload']) byID(id).disabled = readOnly;
  for (const button of document.querySelectorAll('.changes')) button.disabled = readOnly;
  showAbout();
});

function showProblems() {
  const lines = (health?.detail || '').split('\n').filter(Boolean);
  lines.push(...(config?.warnings || []), ...problems.values());
  const unique = [...new Set(lines)];
  byID('problem').hidden = unique.length === 0;
  show(byID('problem-title'), health && health.status !== 'ok' ? `The proxy is ${health.status}.` : 'Note');
  reconcile(byID('problem-list'), unique, (line) => line, (line) => show(alien('', undefined, 'li'), line, 2000), () => {});
}

function showAbout() {
  const parts = [];
  if (config) {
    parts.push('HTTP proxy ' + config.http_address);
    if (config.socks_address) parts.push('SOCKS5 ' + config.socks_address);
    parts.push('admin API ' + config.admin_address);
  }
  if (health) {
    parts.push(`policy generation ${number(health.generation)}`, plural(health.connections, 'client connection'));
    const fenced = Object.entries(health.fences || {}).map(([level, n]) => `${number(n)} ${level}`);
    if (fenced.length > 0) parts.push('fences: ' + fenced.join(', '));
  }
  show(byID('about'), parts.join(' · '), 1000);
}

async function setMode(mode) {
  const done = await change('/mode', { mode }, 'The mode was not changed');
  if (done) tell(`The mode is ${done.mode}.`);
  refreshHealth();
}

byID('mode-limited').addEventListener('click', () => {
  if (health?.mode !== 'limited') setMode('limited');
});
byID('mode-full').addEventListener('click', () => {
  if (health?.mode !== 'full') byID('confirm').showModal();
});
byID('confirm-no').addEventListener('click', () => byID('confirm').close());
byID('confirm-yes').addEventListener('click', () => {
  byID('confirm').close();
  setMode('full');
});
byID('reload').addEventListener('click', async () => {
  const done = await change('/reload', {}, 'The reload failed, and the previous configuration stays in force');
  if (done) tell(`Reloaded: policy generation ${number(done.generation)}, ${plural(done.connections_cut, 'connection')} cut.`);
  refreshHealth();
  refreshRules();
});

// Rules.

let rules = { allowed: [], denied: [], unix_sockets: [] };

const refreshRules = resource('/patterns', (value) => {
  rules = value;
  showRules();
});

function showRules() {
  const wanted = byID('filter-rules').value.trim().toLowerCase();
  for (const [name, list] of [['allowed', rules.allowed], ['denied', rules.denied], ['sockets', rules.unix_sockets]]) {
    const all = list || [];
    const seen = new Map();
    const entries = all.map((rule) => ({ rule, place: place(rule.origin) || 'set by the program' }))
      .filter((e) => !wanted || `${e.rule.pattern} ${e.place}`.toLowerCase().includes(wanted));
    const some = entries.slice(0, maxRules);
    for (const e of some) {
      const k = `${e.rule.pattern}\n${e.place}`;
      seen.set(k, (seen.get(k) || 0) + 1);
      e.key = `${k}\n${seen.get(k)}`;
    }
    reconcile(byID(name + '-list'), some, (e) => e.key, (e) => {
      const node = element('li', 'rule', alien('pattern', e.rule.pattern), alien('place', e.place));
      return node;
    }, () => {});
    show(byID(name + '-count'), number(all.length));
    byID(name + '-list').hidden = some.length === 0;
    let more = '';
    if (all.length === 0) more = name === 'allowed' ? 'Nothing is allowed by a rule.' : 'Nothing.';
    else if (some.length === 0) more = 'No entry matches.';
    else if (entries.length > some.length) more = `${number(entries.length - some.length)} more. Narrow them down with Find.`;
    show(byID(name + '-more'), more);
  }
  byID('sockets').hidden = !rules.unix_sockets?.length;
}

byID('filter-rules').addEventListener('input', () => soon(showRules, 100));

// Sessions and grants.

const sessionNames = new Map(); // ID to a short name
const groupNames = new Set();

const refreshSessions = resource('/sessions', ({ sessions }) => {
  const list = sessions || [];
  for (const s of list) meet(s.id, s.group, s.command);
  reconcile(byID('session-list'), list, (s) => s.id, createSession, updateSession);
  show(byID('session-count'), list.length ? `${number(list.length)} open` : '');
  byID('no-sessions').hidden = list.length > 0;
});

function createSession(s) {
  const node = element('li', 'card');
  const filter = element('button', 'small', 'Filter');
  filter.type = 'button';
  filter.title = 'Show only the requests of this session';
  filter.setAttribute('aria-label', clean(`Filter: only the requests of session ${s.id}`));
  filter.addEventListener('click', () => {
    offer(byID('filter-session'), sessionChoices(), s.id);
    byID('filter-session').value = s.id;
    filterChanged();
  });
  node.parts = { name: alien('name'), facts: alien('facts', undefined, 'p'), numbers: element('p', 'numbers'), age: element('span'), refused: element('span'), rest: element('span') };
  node.parts.numbers.append(node.parts.age, node.parts.refused, node.parts.rest);
  node.append(node.parts.name, filter, node.parts.facts, node.parts.numbers);
  return node;
}

function updateSession(node, s) {
  const p = node.parts;
  showWithTitle(p.name, s.command || 'no command is known');
  showWithTitle(p.facts, [s.id, s.group && `group ${s.group}`, labelText(s.labels)].filter(Boolean).join(' · '));
  const age = s.opened ? seconds(Date.now() - Date.parse(s.opened)) : '';
  show(p.age, `${age} · ${number(s.allowed)} allowed · `);
  p.refused.className = s.refused ? 'some' : '';
  show(p.refused, `${number(s.refused)} refused`);
  show(p.rest, ` · ${s.failed ? `${number(s.failed)} failed · ` : ''}${bytes(s.sent)} sent · ${bytes(s.received)} received`);
}

const refreshGrants = resource('/grants', ({ grants }) => {
  const list = grants || [];
  reconcile(byID('grant-list'), list, (g) => String(g.id), createGrant, updateGrant);
  show(byID('grant-count'), list.length ? number(list.length) : '');
  byID('no-grants').hidden = list.length > 0;
});

function createGrant(g) {
  const node = element('li', 'card');
  node.dataset.grant = g.id;
  const revoke = element('button', 'small changes', 'Revoke');
  revoke.type = 'button';
  revoke.disabled = readOnly;
  revoke.setAttribute('aria-label', clean(`Revoke the grant for ${target(g)}`));
  revoke.addEventListener('click', async () => {
    const done = await change('/grants/revoke', { id: g.id }, 'The grant was not revoked');
    if (done) tell(`The grant for ${target(g)} is revoked. ${plural(done.connections_cut, 'connection was', 'connections were')} cut.`);
    refreshGrants();
  });
  node.parts = { name: alien('name'), facts: alien('facts', undefined, 'p') };
  node.append(node.parts.name, revoke, node.parts.facts);
  return node;
}

function updateGrant(node, g) {
  showWithTitle(node.parts.name, target(g) + (g.port ? '' : ', every port'));
  const who = g.group ? `group ${g.group}` : g.session ? `session ${g.session}` : 'the shared listeners';
  const until = g.expires ? `until ${clock.format(Date.parse(g.expires))}` : '';
  const uses = g.uses_left >= 0 ? plural(g.uses_left, 'use') + ' left' : '';
  showWithTitle(node.parts.facts, ['for ' + who, g.command, g.active ? `${number(g.active)} open` : '', uses, until].filter(Boolean).join(' · '));
}

// Questions.

const questions = new Map(); // ID to its card
const answered = []; // the newest events of this kind

const answerNames = {
  once: 'Allow once',
  command: 'Allow for this session',
  group: 'Allow for the group',
  always: 'Always allow',
  no: 'Refuse',
};

function answerName(answer, request) {
  if (answer === 'command' && !request.session) return 'Allow until the proxy ends';
  return answerNames[answer] || answer;
}

const refreshQuestions = resource('/questions', (value) => {
  const list = value.questions || [];
  const open = new Set(list.map((q) => q.id));
  const added = list.filter((q) => !questions.has(q.id));
  for (const q of added) addQuestion(q);
  if (added.length > 0) {
    const newest = questions.get(added.at(-1).id).node.querySelector('h3').textContent;
    announce(`${plural(list.length, 'question waits', 'questions wait')}: ${newest}`);
  }
  for (const card of questions.values()) {
    if (!open.has(card.q.id) && card.state === 'open') {
      finish(card, goneText(card));
    }
  }
  countQuestions();
});

function addQuestion(q) {
  const r = q.request || {};
  const node = element('li', 'question');
  node.dataset.question = q.id;
  const name = `question-${q.id}`;
  const title = element('h3', '');
  title.id = name;
  const who = r.command ? alien('mono command', r.command) : element('span', '', r.session ? `Session ${r.session}` : 'A program');
  const verb = r.method && r.method !== 'CONNECT' ? ` wants to send ${clean(r.method, 20)} to ` : ' wants to reach ';
  title.append(who, verb, alien('target', target(r) + (r.path || '')));
  const facts = alien('facts', [
    r.protocol, r.local && 'a service on this machine', r.session && `session ${r.session}`, r.group && `group ${r.group}`,
    labelText(r.labels), r.client && `from ${r.client}`,
  ].filter(Boolean).join(' · '), 'p');
  const rest = element('p', 'facts');
  node.append(title, facts, rest);
  if (r.exec_policy_hint) node.append(alien('hint', r.exec_policy_hint, 'p'));
  const buttons = element('div', 'buttons');
  for (const answer of q.answers || []) {
    const button = element('button', 'changes', answerName(answer, r));
    button.type = 'button';
    button.disabled = readOnly;
    button.dataset.answer = answer;
    button.setAttribute('aria-describedby', name);
    button.addEventListener('click', () => reply(card, answer));
    buttons.append(button);
  }
  const result = alien('result', undefined, 'p');
  result.tabIndex = -1;
  result.hidden = true;
  node.append(buttons, result);
  const card = { q, node, rest, buttons, result, state: 'open', armed: Infinity, since: lastSeq };
  questions.set(q.id, card);
  byID('questions').hidden = false;
  byID('question-list').append(node);
  arm(card);
  updateQuestion(card);
}

// arm lets the buttons of a card accept clicks after a while. A click that was meant
// for something else must not become an answer when a card appears under the pointer.
function arm(card) {
  if (card.state !== 'open') return;
  card.armed = performance.now() + armingTime;
  for (const b of card.buttons.children) b.setAttribute('aria-disabled', 'true');
  setTimeout(() => {
    if (performance.now() < card.armed - 1) return; // armed again meanwhile
    for (const b of card.buttons.children) b.removeAttribute('aria-disabled');
  }, armingTime);
}

async function reply(card, answer) {
  if (card.state !== 'open' || performance.now() < card.armed - 1) return;
  card.state = 'sending';
  const name = answerName(answer, card.q.request);
  try {
    await call('/questions/answer', { id: card.q.id, answer });
    finish(card, `You answered: ${name}.`);
  } catch (e) {
    if (e.status === 404) {
      card.state = 'open';
      finish(card, goneText(card));
    } else if (e.status === 409) {
      finish(card, e.message, true);
    } else {
      card.state = 'open';
      card.result.hidden = false;
      card.result.classList.add('bad');
      show(card.result, `The answer did not arrive: ${e.message}`, 1000);
    }
  }
  countQuestions();
  refreshQuestions();
  refreshGrants();
}

function goneText(card) {
  const r = card.q.request || {};
  const e = answered.find((a) => a.seq > card.since && a.host === r.host && a.port === r.port &&
    (a.session || '') === (r.session || '') && a.protocol === r.protocol);
  if (!e) return 'Answered elsewhere, or nobody waits for the answer any more.';
  if (e.error) return `It ended without an answer: ${e.error}`;
  return `Answered elsewhere: ${e.message || e.decision || 'no'}`;
}

// finish shows the result of a question in its place. The card stays for a while, and
// while the pointer is on the questions, so that no other card moves under it.
function finish(card, text, bad = false) {
  if (card.state === 'done') return;
  const focused = card.node.contains(document.activeElement);
  card.state = 'done';
  card.node.dataset.state = 'done';
  card.buttons.hidden = true;
  card.rest.hidden = true;
  card.result.hidden = false;
  card.result.classList.toggle('bad', bad);
  show(card.result, text, 1000);
  if (focused) card.result.focus({ preventScroll: true });
  announce(text);
  const leave = () => {
    if (byID('questions').matches(':hover') || card.node.contains(document.activeElement)) {
      setTimeout(leave, 1000);
      return;
    }
    questions.delete(card.q.id);
    for (let n = card.node.nextElementSibling; n; n = n.nextElementSibling) {
      const moved = questions.get(Number(n.dataset.question));
      if (moved) arm(moved);
    }
    card.node.remove();
    byID('questions').hidden = questions.size === 0;
  };
  setTimeout(leave, bad ? 3 * lingering : lingering);
}

function updateQuestion(card) {
  const { q } = card;
  const parts = [];
  if (q.asked) parts.push(`has waited for ${seconds(Date.now() - Date.parse(q.asked))}`);
  if (q.expires) {
    const left = Date.parse(q.expires) - Date.now();
    parts.push(left > 0 ? `${seconds(left)} left` : 'the time is over');
  }
  show(card.rest, parts.join(', '));
}

function countQuestions() {
  const open = [...questions.values()].filter((c) => c.state === 'open' || c.state === 'sending').length;
  document.title = open ? `(${open}) networkproxy` : 'networkproxy';
  byID('waiting').hidden = open === 0;
  show(byID('waiting'), plural(open, 'question waits', 'questions wait'));
  show(byID('questions-title'), open ? plural(open, 'question waits', 'questions wait') : 'Questions');
}

byID('waiting').addEventListener('click', (e) => {
  e.preventDefault();
  byID('questions-title').focus();
  byID('questions').scrollIntoView({ block: 'start' });
});

// Requests: one record for each request, question, cut and change, made from events.

const records = []; // oldest first
const recordByKey = new Map();
const fresh = []; // records that are not in the document yet
const changed = new Set(); // records whose row has to be updated
let total = 0; // records since the page was opened
let missed = 0; // records while paused
let run = ''; // of the proxy, from the IDs of events
let lastSeq = 0;

function receive(id, e) {
  const itsRun = id.slice(0, Math.max(0, id.lastIndexOf('-')));
  if (itsRun !== run) {
    if (run) addRecord(`${itsRun}:start`, 'changes', { kind: 'started', seq: 0, time: e.time, message: 'the proxy has started again' });
    run = itsRun;
    lastSeq = 0;
    counters = null;
    refreshAll();
  }
  if (e.seq <= lastSeq) return;
  lastSeq = e.seq;
  meet(e.session, e.group, e.command);
  soon(refreshHealth, 1000); // for the counters

  const key = e.request ? `${run}:${e.request}` : `${run}:e${e.seq}`;
  switch (e.kind) {
    case 'opened':
    case 'allowed':
    case 'refused':
    case 'failed':
      mergeRecord(key, e.kind === 'opened' ? 'allowed' : e.kind, e);
      if (e.kind === 'allowed') countBytes(e);
      break;
    case 'closed':
      mergeRecord(key, '', e);
      countBytes(e);
      break;
    case 'asked':
      addRecord(`${key}?`, 'asked', e);
      soon(refreshQuestions, 20);
      break;
    case 'answered':
      answered.unshift(e);
      answered.length = Math.min(answered.length, 100);
      mergeRecord(`${key}?`, '', e);
      soon(refreshQuestions, 20);
      break;
    case 'cut':
      addRecord(`${key}x`, 'cut', e);
      break;
    case 'dropped':
      addRecord(`${run}:d${e.seq}`, 'missing', e);
      soon(refreshSessions);
      soon(refreshGrants);
      break;
    default:
      addRecord(`${run}:e${e.seq}`, 'changes', e);
      if (e.kind === 'granted' || e.kind === 'revoked') soon(refreshGrants);
      if (e.kind === 'session_opened' || e.kind === 'session_closed') soon(refreshSessions);
      if (e.kind === 'reload' || e.kind === 'rule') soon(refreshRules);
  }
}

function addRecord(key, outcome, e) {
  const record = { key, outcome, e, node: null, over: e.kind === 'closed' };
  records.push(record);
  recordByKey.set(key, record);
  total++;
  if (records.length > maxRecords + 1000) {
    for (const old of records.splice(0, 1000)) recordByKey.delete(old.key);
  }
  if (paused) missed++;
  else {
    fresh.push(record);
    if (fresh.length > 2 * maxRows) fresh.splice(0, maxRows);
  }
  render();
}

// mergeRecord adds what an event says to the record of its request.
function mergeRecord(key, outcome, e) {
  const record = recordByKey.get(key);
  if (!record) {
    addRecord(key, outcome || (e.kind === 'answered' ? 'asked' : 'allowed'), e);
    return;
  }
  record.e = { ...record.e, ...e, time: record.e.time };
  if (e.kind === 'closed') record.over = true;
  if (outcome) record.outcome = outcome;
  if (record.node) {
    changed.add(record);
    render();
  }
}

// Rows of requests.

const filter = { outcomes: new Set(outcomes), host: '', session: '', group: '' };
let paused = false;
let scheduled = false;
let nextRender = 0; // time before which nothing is rendered

function matches({ outcome, e }) {
  if (outcome === 'missing') return true;
  if (!filter.outcomes.has(outcome)) return false;
  if (filter.session && e.session !== filter.session) return false;
  if (filter.group && e.group !== filter.group) return false;
  if (!filter.host) return true;
  return [e.host, e.unix_socket, e.server_name].some((v) => v && v.toLowerCase().includes(filter.host));
}

function render() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(renderFrame);
}

function renderFrame(now) {
  if (now < nextRender) {
    requestAnimationFrame(renderFrame);
    return;
  }
  scheduled = false;
  nextRender = Infinity;
  const after = new MessageChannel(); // its task begins when the browser has done its layout and painting
  after.port1.onmessage = () => {
    after.port1.close();
    const cost = performance.now() - now;
    nextRender = performance.now() + Math.max(frameInterval, idleShare * cost);
  };
  after.port2.postMessage(0);
  if (!paused) {
    const rows = byID('rows');
    const batch = fresh.splice(0).filter(matches).slice(-maxRows).reverse();
    if (batch.length > 0) {
      rows.prepend(...batch.map(rowOf));
      evict(rows);
    }
    for (const record of changed) {
      if (record.node) fillRow(record);
    }
    changed.clear();
  }
  showCounts();
}

// evict removes the oldest rows above the bound, but not the one with the focus.
function evict(rows) {
  let node = rows.lastElementChild;
  for (let excess = rows.childElementCount - maxRows; excess > 0 && node; excess--) {
    if (node.contains(document.activeElement)) node = node.previousElementSibling;
    const before = node.previousElementSibling;
    node.record.node = null;
    node.remove();
    node = before;
  }
}

// renderAll makes the rows anew, after a change of the filter or a pause.
function renderAll() {
  for (const record of changed) {
    if (record.node) fillRow(record);
  }
  fresh.length = 0;
  changed.clear();
  const wanted = [];
  for (let i = records.length - 1; i >= 0 && wanted.length < maxRows; i--) {
    if (matches(records[i])) wanted.push(records[i]);
  }
  const keep = new Set(wanted);
  for (const node of [...byID('rows').children]) {
    if (!keep.has(node.record)) node.record.node = null;
  }
  byID('rows').replaceChildren(...wanted.map(rowOf));
  showCounts();
}

function showCounts() {
  const shown = byID('rows').childElementCount;
  byID('empty').hidden = shown > 0;
  show(byID('empty'), total > 0 ? 'Nothing matches the filter.' : 'Nothing has happened yet. Requests appear here as they are made.');
  let text = total > 0 ? `the newest ${number(shown)} of ${number(total)}` : '';
  if (paused) text = missed ? `paused, ${number(missed)} new` : 'paused';
  show(byID('shown'), text);
}

// pattern is a row without content. Copies of it are made faster than its elements.
const pattern = element('li', 'row',
  element('time'), element('span', 'outcome'),
  element('span', 'target', element('span', 'method'), alien('host'), element('span', 'port')),
  alien('who'), element('span', 'amount'), element('button', 'more'), alien('why', undefined, 'p'));
pattern.querySelector('button').type = 'button';
pattern.querySelector('button').tabIndex = -1;

function rowOf(record) {
  if (record.node) return record.node;
  const node = pattern.cloneNode(true);
  const [time, outcome, where, who, spent, more, why] = node.children;
  const [method, host, port] = where.children;
  node.parts = { time, outcome, target: where, method, host, port, who, amount: spent, more, why, details: null };
  more.setAttribute('aria-expanded', 'false');
  node.record = record;
  record.node = node;
  fillRow(record);
  return node;
}

// Words for the kinds that are changes.
const kinds = {
  granted: 'granted', revoked: 'revoked', reload: 'reload', mode: 'mode', rule: 'rule',
  session_opened: 'opened', session_closed: 'ended', started: 'started',
};

function fillRow(record) {
  const { e, node, outcome } = record;
  const p = node.parts;
  node.dataset.outcome = outcome;
  if (e.time && p.time.dateTime !== e.time) {
    p.time.dateTime = e.time;
    show(p.time, clock.format(Date.parse(e.time)));
  }
  show(p.outcome, outcome === 'changes' ? kinds[e.kind] || e.kind : outcome === 'missing' ? 'missing' : outcome);
  show(p.method, outcome === 'changes' ? '' : e.method || shortProtocol(e.protocol));
  showWithTitle(p.host, e.unix_socket || (e.host ? hostText(e.host) : subject(record)));
  show(p.port, !e.unix_socket && e.host && e.port ? ':' + e.port : '');
  p.target.title = clean(`${e.method ? e.method + ' ' : ''}${target(e) || subject(record)}`, 2000);
  showWithTitle(p.who, outcome === 'missing' ? '' : [e.session, e.command].filter(Boolean).join('  '));
  show(p.amount, amount(record));
  const why = reasons(record);
  show(p.why, why, 600);
  p.more.setAttribute('aria-label', clean(`Details of ${outcome === 'changes' ? e.kind : outcome} ${target(e)}`));
  if (p.details) fillDetails(record);
}

// subject returns what stands in the place of the host in a row without one.
function subject({ outcome, e }) {
  if (outcome === 'missing') return `${plural(e.dropped, 'event is', 'events are')} missing here`;
  switch (e.kind) {
    case 'reload': return e.error ? 'the reload failed' : `policy generation ${number(e.generation)}`;
    case 'mode': return `${e.mode} mode`;
    case 'session_opened': return `session ${e.session}`;
    case 'session_closed': return `session ${e.session}`;
    case 'started': return e.message;
    case 'cut': return 'an idle connection';
  }
  return outcome === 'refused' ? 'a malformed request' : '';
}

function shortProtocol(protocol) {
  return { https_connect: 'CONNECT', socks5_tcp: 'SOCKS5', socks5_udp: 'UDP', captured_tcp: 'TCP', captured_udp: 'UDP', dns: 'DNS' }[protocol] || '';
}

function amount({ outcome, e, over }) {
  if (outcome === 'asked') return e.kind === 'answered' ? '' : 'waits';
  const parts = [];
  if (e.sent) parts.push(`↑ ${bytes(e.sent)}`);
  if (e.received) parts.push(`↓ ${bytes(e.received)}`);
  if (e.duration_ns) parts.push(duration(e.duration_ns / 1e6));
  else if (outcome === 'allowed' && !over) parts.push('open');
  return parts.join('  ');
}

// reasons returns why something happened, for the second line of a row.
function reasons({ outcome, e }) {
  if (outcome === 'missing' || outcome === 'allowed') return '';
  const text = (e.message || '').replace(/^networkproxy (blocked|cut) .*?: /s, '');
  const parts = [];
  if (e.kind === 'answered') parts.push(e.error ? 'no answer' : e.decision === 'allow' ? 'allowed' : 'refused');
  if (e.reason) parts.push(e.reason);
  if (text && e.kind !== 'started') parts.push(text);
  if (e.error) parts.push(e.error);
  const where = place(e.rule?.origin);
  if (where) parts.push(where);
  return parts.join(' · ');
}

function toggle(record) {
  const p = record.node.parts;
  if (p.details) {
    p.details.remove();
    p.details = null;
  } else {
    p.details = element('dl');
    record.node.append(p.details);
    fillDetails(record);
  }
  p.more.setAttribute('aria-expanded', String(Boolean(p.details)));
}

function fillDetails(record) {
  const { e, node } = record;
  const facts = [];
  for (const [name, value] of Object.entries(e)) {
    if (name === 'version' || name === 'kind') continue;
    if (name === 'rule') facts.push(['rule', [value.list, value.pattern].filter(Boolean).join(': ')], ['place', place(value.origin)]);
    else if (name === 'labels') facts.push(['labels', labelText(value)]);
    else if (name === 'duration_ns') facts.push(['duration', duration(value / 1e6)]);
    else if (name === 'sent' || name === 'received') facts.push([name, `${number(value)} bytes`]);
    else facts.push([name.replaceAll('_', ' '), value]);
  }
  node.parts.details.replaceChildren(...facts.filter(([, value]) => value !== '').flatMap(([name, value]) => {
    const dd = alien('', undefined, 'dd');
    show(dd, value, 2000);
    return [element('dt', '', name), dd];
  }));
}

// Tab reaches the list, and the arrow keys move among the buttons of its rows.
const scroller = byID('scroller');

scroller.addEventListener('keydown', (e) => {
  const row = e.target.closest?.('.row');
  let next = null;
  if (e.key === 'ArrowDown') next = row ? row.nextElementSibling : byID('rows').firstElementChild;
  else if (e.key === 'ArrowUp' && row) next = row.previousElementSibling;
  else if (e.key === 'Home') next = byID('rows').firstElementChild;
  else if (e.key === 'End') next = byID('rows').lastElementChild;
  else return;
  if (!next) return;
  e.preventDefault();
  next.parts.more.focus();
});

scroller.addEventListener('click', (e) => {
  const row = e.target.closest?.('.row');
  if (!row || e.target.closest('dl')) return;
  if (e.target.closest('button') || getSelection().isCollapsed) toggle(row.record);
});

// Filters.

for (const outcome of outcomes) {
  const button = element('button', '', outcome);
  button.type = 'button';
  button.dataset.outcome = outcome;
  button.setAttribute('aria-pressed', 'true');
  button.addEventListener('click', () => {
    if (!filter.outcomes.delete(outcome)) filter.outcomes.add(outcome);
    filterChanged();
  });
  byID('outcomes').append(button);
}

function filterChanged() {
  filter.host = byID('filter-host').value.trim().toLowerCase();
  filter.session = byID('filter-session').value;
  filter.group = byID('filter-group').value;
  for (const button of byID('outcomes').children) {
    button.setAttribute('aria-pressed', String(filter.outcomes.has(button.dataset.outcome)));
  }
  byID('clear').hidden = !filter.host && !filter.session && !filter.group && filter.outcomes.size === outcomes.length;
  renderAll();
}

byID('filter-host').addEventListener('input', () => soon(filterChanged, 100));
byID('filter-session').addEventListener('change', filterChanged);
byID('filter-group').addEventListener('change', filterChanged);
byID('clear').addEventListener('click', () => {
  byID('filter-host').value = '';
  byID('filter-session').value = '';
  byID('filter-group').value = '';
  filter.outcomes = new Set(outcomes);
  byID('filter-host').focus();
  filterChanged();
});

byID('pause').addEventListener('click', () => {
  paused = !paused;
  missed = 0;
  byID('pause').setAttribute('aria-pressed', String(paused));
  if (paused) showCounts();
  else renderAll();
});

// meet notes a session and a group, which the filters then offer.
function meet(session, group, command) {
  if (session && !sessionNames.has(session)) {
    sessionNames.set(session, command ? `${session}  ${command}` : session);
    forgetOldest(sessionNames);
    soon(offerChoices, 500);
  }
  if (group && !groupNames.has(group)) {
    groupNames.add(group);
    forgetOldest(groupNames);
    soon(offerChoices, 500);
  }
}

function forgetOldest(collection) {
  if (collection.size > maxChoices) collection.delete(collection.keys().next().value);
}

const sessionChoices = () => [...sessionNames].reverse();
const groupChoices = () => [...groupNames].reverse().map((g) => [g, g]);

function offerChoices() {
  offer(byID('filter-session'), sessionChoices(), byID('filter-session').value);
  offer(byID('filter-group'), groupChoices(), byID('filter-group').value);
}

// offer makes the options of a list. The chosen one stays, also if it is not offered any
// more. A list in use is left alone.
function offer(select, choices, chosen) {
  if (document.activeElement === select) {
    soon(offerChoices, 2000);
    return;
  }
  const all = new Map([['', 'all'], ...choices]);
  if (!all.has(chosen)) all.set(chosen, chosen);
  select.replaceChildren(...[...all].map(([value, name]) => {
    const option = document.createElement('option');
    option.value = value;
    show(option, name, 50);
    return option;
  }));
  select.value = chosen;
}

// Charts of the last five minutes.

const requestBins = new Map(); // number of the bin to counts
const byteBins = new Map();
const requestKeys = ['allowed', 'refused', 'failed', 'cut'];
const byteKeys = ['received', 'sent'];

function addToBin(map, bin, keys, counts) {
  let have = map.get(bin);
  if (!have) {
    have = Object.fromEntries(keys.map((k) => [k, 0]));
    map.set(bin, have);
    const oldest = Math.floor(Date.now() / binWidth) - bins - 1;
    for (const old of map.keys()) {
      if (old < oldest) map.delete(old);
    }
  }
  for (const k of keys) have[k] += counts[k] || 0;
}

// sampleCounters turns the counters since the start into counts of the bins since the
// last sample, which is long ago if the page was in the background.
function sampleCounters(h) {
  const now = Date.now();
  const before = counters;
  counters = { time: now };
  for (const k of requestKeys) counters[k] = h[k] || 0;
  if (before && requestKeys.every((k) => counters[k] >= before[k])) {
    const first = Math.floor(before.time / binWidth);
    const last = Math.floor(now / binWidth);
    const n = last - first > 2 ? last - first : 1;
    const part = {};
    for (const k of requestKeys) part[k] = (counters[k] - before[k]) / n;
    for (let bin = last - n + 1; bin <= last; bin++) addToBin(requestBins, bin, requestKeys, part);
  }
  figures(byID('totals'), requestKeys.map((k) => [k, number(counters[k]), k]));
  drawCharts();
}

function countBytes(e) {
  if (!e.sent && !e.received) return;
  const now = Date.now();
  const time = Math.min(now, Date.parse(e.time) || now);
  if (now - time >= bins * binWidth) return;
  addToBin(byteBins, Math.floor(time / binWidth), byteKeys, e);
  soon(drawCharts, 500);
}

function figures(list, entries) {
  reconcile(list, entries, ([key]) => key, ([key]) => {
    const node = element('div', '', element('dt'), element('dd'));
    node.dataset.key = key;
    return node;
  }, (node, [, value, name]) => {
    show(node.querySelector('dt'), name);
    show(node.querySelector('dd'), value);
  });
}

const svg = (tag, attributes) => {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
  return node;
};

const chartHeight = 72;

// makeChart makes a chart with a bar for each bin. A bar has a part for each key.
function makeChart(parent, keys) {
  const root = svg('svg', { viewBox: `0 0 ${bins * 10} ${chartHeight}`, preserveAspectRatio: 'none', role: 'img' });
  root.append(svg('line', { class: 'base', x1: 0, x2: bins * 10, y1: chartHeight, y2: chartHeight }));
  root.bars = [];
  for (let i = 0; i < bins; i++) {
    const bar = {};
    for (const k of keys) {
      bar[k] = svg('rect', { class: 'bar-' + k, x: i * 10 + 1, width: 8, y: chartHeight, height: 0 });
      root.append(bar[k]);
    }
    root.bars.push(bar);
  }
  parent.append(root);
  return root;
}

const requestChart = makeChart(byID('chart-requests'), requestKeys);
const byteChart = makeChart(byID('chart-bytes'), byteKeys);

function drawCharts() {
  const requests = drawBars(requestChart, requestBins, requestKeys, byID('chart-requests-scale'), (n) => number(Math.round(n)));
  label(requestChart, 'Requests in the last five minutes: ' + requestKeys.map((k) => `${number(Math.round(requests[k]))} ${k}`).join(', '));
  const flow = drawBars(byteChart, byteBins, byteKeys, byID('chart-bytes-scale'), bytes);
  label(byteChart, `Bytes in the last five minutes: ${bytes(flow.received)} received, ${bytes(flow.sent)} sent`);
  figures(byID('byte-totals'), byteKeys.map((k) => [k, bytes(flow[k]), k]));
}

// drawBars draws the bins of the last five minutes, and returns their sums. The parts of
// a bar stand on each other. The smallest can be seen.
function drawBars(root, map, keys, scale, text) {
  const last = Math.floor(Date.now() / binWidth);
  const list = Array.from({ length: bins }, (_, i) => map.get(last - bins + 1 + i));
  const largest = Math.max(0, ...list.map((counts) => counts ? keys.reduce((n, k) => n + counts[k], 0) : 0));
  list.forEach((counts, i) => {
    let y = chartHeight;
    for (const k of keys) {
      const n = counts?.[k] || 0;
      const height = n > 0 ? Math.min(y, Math.max(2, n / largest * (chartHeight - 6))) : 0;
      y -= height;
      setBar(root.bars[i][k], y, height);
    }
  });
  show(scale, largest > 0 ? `highest bar: ${text(largest)} in ${binWidth / 1000} s` : '');
  return sum(list, keys);
}

function sum(list, keys) {
  const sums = Object.fromEntries(keys.map((k) => [k, 0]));
  for (const counts of list) {
    for (const k of keys) sums[k] += counts?.[k] || 0;
  }
  return sums;
}

function setBar(rect, y, height) {
  if (Number(rect.getAttribute('height')) === height && Number(rect.getAttribute('y')) === y) return;
  rect.setAttribute('y', y);
  rect.setAttribute('height', height);
}

function label(node, text) {
  if (node.getAttribute('aria-label') !== text) node.setAttribute('aria-label', text);
}

// The stream of events.

let lastID = '';
let retryBase = 1000;
let attempts = 0;
let wake = () => {}; // ends the wait for the next attempt
let lastHeard = 0; // time of the last bytes

function setConnection(state, text) {
  const pill = byID('connection');
  pill.dataset.state = state;
  show(pill, state === 'locked' ? text : state);
  if (state !== 'disconnected') {
    byID('disconnected').hidden = true;
    return;
  }
  byID('state').hidden = true; // until /health answers again
  const since = lastHeard ? ` What you see is from ${clock.format(lastHeard)}.` : '';
  show(byID('disconnected-text'), `${text}.${since}`, 500);
  byID('disconnected').hidden = false;
}

async function follow() {
  for (;;) {
    if (locked) {
      await new Promise((resolve) => { unlock = resolve; });
      attempts = 0;
    }
    let problem = 'The proxy has closed the stream of events';
    try {
      await readStream();
    } catch (e) {
      problem = e instanceof APIError ? e.message.replace(/\.$/, '') : 'The proxy does not answer';
    }
    if (locked) {
      setConnection('locked', 'needs the token');
      continue;
    }
    setConnection('disconnected', problem);
    const delay = Math.min(maxBackoff, retryBase * 2 ** Math.min(attempts, 10)) * (0.75 + Math.random() / 2);
    attempts++;
    await pauseBefore(delay);
  }
}

// pauseBefore waits before the next attempt, and counts the seconds down.
function pauseBefore(delay) {
  return new Promise((resolve) => {
    const end = Date.now() + delay;
    const count = () => show(byID('disconnected-next'), `Next attempt in ${Math.max(1, Math.ceil((end - Date.now()) / 1000))} s.`);
    count();
    const ticker = setInterval(count, 1000);
    const timer = setTimeout(() => wake(), delay);
    wake = () => {
      clearInterval(ticker);
      clearTimeout(timer);
      wake = () => {};
      show(byID('disconnected-next'), 'Connecting.');
      resolve();
    };
  });
}

async function readStream() {
  const abort = new AbortController();
  lastSound = Date.now();
  const watchdog = setInterval(() => {
    if (Date.now() - lastSound > silence) abort.abort();
  }, 5000);
  try {
    const more = { Accept: 'text/event-stream' };
    if (lastID) more['Last-Event-ID'] = lastID;
    const response = await fetch('/events', { headers: headers(more), cache: 'no-store', redirect: 'error', signal: abort.signal });
    if (!response.ok) await readAnswer(response, false);
    setConnection('live');
    attempts = 0;
    refreshAll();
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let buffer = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      lastSound = lastHeard = Date.now();
      buffer += decoder.decode(value, { stream: true });
      let start = 0;
      for (let end; (end = buffer.indexOf('\n\n', start)) >= 0; start = end + 2) readFrame(buffer.slice(start, end));
      buffer = buffer.slice(start);
    }
  } finally {
    clearInterval(watchdog);
    abort.abort();
  }
}

let lastSound = 0; // of this attempt

function readFrame(frame) {
  let data = '';
  for (const line of frame.split('\n')) {
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'id') lastID = value;
    else if (name === 'data') data += value;
    else if (name === 'retry' && /^\d{1,5}$/.test(value)) retryBase = Math.max(250, Number(value) / 2);
  }
  if (!data) return;
  let e;
  try {
    e = JSON.parse(data);
  } catch {
    return; // a newer format
  }
  receive(lastID, e);
}

byID('retry').addEventListener('click', () => wake());
addEventListener('online', () => wake());

// The beginning.

function refreshAll() {
  soon(refreshQuestions, 0);
  soon(refreshHealth, 0);
  soon(refreshConfig, 0);
  soon(refreshRules, 0);
  soon(refreshSessions, 0);
  soon(refreshGrants, 0);
}

setInterval(() => {
  refreshQuestions();
  refreshHealth();
  if (document.hidden) return;
  refreshSessions();
  refreshGrants();
}, pollInterval);

setInterval(() => {
  for (const card of questions.values()) {
    if (card.state === 'open') updateQuestion(card);
  }
}, 1000);

document.addEventListener('visibilitychange', () => {
  if (!document.hidden) refreshAll();
});

showRules();
drawCharts();
figures(byID('totals'), requestKeys.map((k) => [k, '–', k]));
logIn().finally(follow);
