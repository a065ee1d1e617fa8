/** Requests again while the service is busy, not ready or late, after the pause that it names. */

const STATUSES = new Set([429, 503, 504]);
const FIRST_PAUSE_S = 0.25; // doubles with each attempt, unless the service names a time
const LONGEST_PAUSE_S = 60; // the service names no longer one

/** Seconds to wait before the next attempt; undefined if the response is final. */
export function pauseS(response: Response, attempt: number): number | undefined {
  if (!STATUSES.has(response.status)) return undefined;
  const named = Number(response.headers.get("Retry-After") ?? NaN);
  const pause = Number.isFinite(named) ? named : FIRST_PAUSE_S * 2 ** attempt;
  return pause <= LONGEST_PAUSE_S ? pause : undefined;
}

/** A `fetch` that sends each request up to `attempts` times. */
export function retrying(
  inner: (request: Request) => Promise<Response>,
  attempts: number,
): (request: Request) => Promise<Response> {
  return async (request) => {
    for (let attempt = 0; ; attempt += 1) {
      const isLast = attempt + 1 >= attempts;
      const response = await inner(isLast ? request : request.clone());
      const pause = isLast ? undefined : pauseS(response, attempt);
      if (pause === undefined) return response;
      await response.body?.cancel();
      await new Promise((resolve) => setTimeout(resolve, 1000 * pause));
    }
  };
}
