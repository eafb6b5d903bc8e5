// The HTTP interface of the server: one function per endpoint that the pages use. The session is a cookie that scripts
// cannot read; the browser sends it by itself.

// What the server refused (status, kind, message), or status 0 when no answer came.
export class Refused extends Error {
  constructor(status, kind, message, body = null, retryAfter = null) {
    super(message);
    this.status = status;
    this.kind = kind;
    this.body = body;
    this.retryAfter = retryAfter; // seconds
  }

  // Sending the same again may work: no answer came, or the server was too busy to take it.
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

const PATIENCE = 20_000; // milliseconds until an answer counts as lost

export async function call(method, path, body = undefined) {
  const options = {
    method,
    credentials: "same-origin",
    cache: "no-store",
    headers: { Accept: "application/json" },
    signal: AbortSignal.timeout(PATIENCE),
  };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let response;
  let text;
  try {
    response = await fetch(path, options);
    text = await response.text();
  } catch {
    throw new Refused(0, "Unreachable", "The server did not answer.");
  }
  let json = null;
  try {
    json = text ? JSON.parse(text) : null;
  } catch {
    throw new Refused(
      response.ok ? 0 : response.status,
      "Unreadable",
      "The server's answer was cut off or is not JSON.",
    );
  }
  if (response.ok) return json;
  const error = json?.error ?? { kind: "Unknown", message: `The server answered ${response.status}.` };
  throw new Refused(
    response.status,
    error.kind,
    error.message,
    json,
    Number(response.headers.get("Retry-After")) || null,
  );
}

const at = (...parts) => `/v1/${parts.map(encodeURIComponent).join("/")}`;
const studyAt = (study, ...rest) => at("studies", study, ...rest);

export const session = {
  begin: (token) => call("POST", at("session"), { token }),
  get: (role, study) => call("GET", `${at("session")}?role=${role}&study=${encodeURIComponent(study)}`),
  end: (role) => call("DELETE", `${at("session")}?role=${role}`),
};

export const rater = {
  next: (study) => call("GET", studyAt(study, "next")),
  answer: (slate, body) => call("PUT", at("slates", slate, "answer"), body),
  undo: (study) => call("POST", studyAt(study, "undo"), {}),
  heartbeat: (slate) => call("POST", at("slates", slate, "heartbeat")),
  best: (study) => call("GET", studyAt(study, "best")),
};

export const owner = {
  studies: () => call("GET", at("studies")),
  study: (study) => call("GET", studyAt(study)),
  progress: (study) => call("GET", studyAt(study, "progress")),
  best: (study) => call("GET", studyAt(study, "best")),
  history: (study, after = null) =>
    call("GET", `${studyAt(study, "history")}?limit=20${after === null ? "" : `&after=${encodeURIComponent(after)}`}`),
  agreement: (study) => call("GET", studyAt(study, "agreement")),
  links: (study) => call("GET", studyAt(study, "links")),
  addLink: (study, body) => call("POST", studyAt(study, "links"), body),
  revoke: (study, id) => call("DELETE", studyAt(study, "links", id)),
  pause: (study, paused) => call("POST", studyAt(study, "pause"), { paused }),
  exportAt: (study, format) => `${studyAt(study, "export")}?format=${format}`,
};

export const sleep = (milliseconds, wake = null) =>
  new Promise((resolve) => {
    const timer = setTimeout(done, milliseconds);
    wake?.addEventListener("wake", done, { once: true });
    function done() {
      clearTimeout(timer);
      wake?.removeEventListener("wake", done);
      resolve();
    }
  });
