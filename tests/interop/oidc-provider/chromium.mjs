// Runs a program that prints the URL of a sign-in, opens the URL in Chromium, and signs alice in on the pages of oidc-provider.
//
// Usage: node chromium.mjs <Chromium> <folder for its profile> <program> [arguments of the program]
//
// It speaks the DevTools protocol over a pipe: messages are JSON that ends with a zero byte.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

const [chromium, profile, program, ...options] = process.argv.slice(2);

const login = spawn(program, options, {
  stdio: ['ignore', 'pipe', 'inherit'],
  env: { ...process.env, LD_LIBRARY_PATH: '' },
});
const ended = once(login, 'exit');
let found;
const url = new Promise((resolve) => (found = resolve));
createInterface(login.stdout).on('line', (line) => {
  console.log(`login: ${line}`);
  if (line.startsWith('http')) found(line);
});

const browser = spawn(
  chromium,
  ['--headless', '--no-sandbox', '--disable-gpu', '--no-proxy-server', `--user-data-dir=${profile}`, '--remote-debugging-pipe'],
  { stdio: ['ignore', 'ignore', process.env.VERBOSE ? 'inherit' : 'ignore', 'pipe', 'pipe'] },
);
let number = 0;
const waiting = new Map();
let rest = '';
browser.stdio[4].on('data', (data) => {
  const messages = (rest + data).split('\0');
  rest = messages.pop();
  for (const message of messages.map((text) => JSON.parse(text))) {
    waiting.get(message.id)?.(message);
    waiting.delete(message.id);
  }
});
async function send(method, params = {}, sessionId = undefined) {
  const id = ++number;
  const answered = new Promise((resolve) => waiting.set(id, resolve));
  browser.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
  const { error, result } = await answered;
  if (error) throw new Error(`${method}: ${error.message}`);
  return result;
}

const { targetId } = await send('Target.createTarget', { url: 'about:blank' });
const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true });
const run = async (expression) => {
  const { result } = await send('Runtime.evaluate', { expression, returnByValue: true }, sessionId);
  return result.value;
};

// What alice does with a page: she fills in its form and presses the button.
const ACT = `(() => {
  if (document.readyState !== 'complete') return 'loading';
  const form = document.forms[0];
  if (!form || form.dataset.sent) return 'none';
  for (const name of ['login', 'password']) if (form.elements[name]) form.elements[name].value = 'alice';
  form.dataset.sent = 'yes';
  form.querySelector('[type=submit]').click();
  return 'sent ' + document.title;
})()`;

await send('Page.navigate', { url: await url }, sessionId);
let page = '';
for (let step = 0; step < 300 && !page.includes('You are signed in'); ++step) {
  await new Promise((resolve) => setTimeout(resolve, 100));
  try {
    const acted = await run(ACT);
    if (acted?.startsWith('sent')) console.log(`chromium: ${acted}`);
    page = (await run('location.href.split("?")[0] + " shows: " + document.body?.innerText')) ?? '';
  } catch (error) {
    // The page was replaced meanwhile.
    if (process.env.VERBOSE) console.error(error.message);
  }
}
console.log(`chromium: ${page.trim()}`);
browser.kill();
const [status] = await ended;
process.exit(status === 0 && page.includes('/callback shows: You are signed in') ? 0 : 1);
