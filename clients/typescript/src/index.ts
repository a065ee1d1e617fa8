/**
 * Client of Précis. The types in schema.ts are generated from the service's OpenAPI document;
 * `api` reaches every route by them, and the methods are for what is awkward there.
 */

import createClient, { type Client } from "openapi-fetch";

import { events } from "./events.js";
import { retrying } from "./retries.js";
import type { components, paths } from "./schema.js";

export type { components, paths } from "./schema.js";

type Schemas = components["schemas"];
export type Answer = Schemas["AnswerBody"];
export type Hit = Schemas["HitBody"];
export type Question = Partial<Schemas["AskInput"]> & { question: string };
export type Upload = Schemas["UploadBody"]["images"][number];
export type Search = NonNullable<paths["/search"]["get"]["parameters"]["query"]>;

const DEFAULT_URL = "http://127.0.0.1:8000";

export interface Options {
  /** Address of the service; PRECIS_URL or the local one by default. */
  url?: string;
  /** Key of the service; PRECIS_API_KEY by default, if it is set. */
  apiKey?: string;
  /** Collection that all calls are about; the library without a name by default. */
  collection?: string;
  /** How often a request is sent while the service is busy; 8 by default. */
  attempts?: number;
}

/** The service answered with a problem (RFC 9457). */
export class PrecisError extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string | undefined,
  ) {
    super(detail ? `${title}: ${detail}` : title);
    this.name = "PrecisError";
  }
}

export class Precis {
  /** Every route, typed: `precis.api.GET("/images/{image_id}", { params: … })`. */
  readonly api: Client<paths>;
  readonly #query: { collection?: string };

  constructor(options: Options = {}) {
    const environment = globalThis.process?.env ?? {};
    const key = options.apiKey ?? environment["PRECIS_API_KEY"];
    this.#query = options.collection ? { collection: options.collection } : {};
    this.api = createClient<paths>({
      baseUrl: options.url ?? environment["PRECIS_URL"] ?? DEFAULT_URL,
      headers: key ? { Authorization: `Bearer ${key}` } : {},
      // A list in a query is a parameter that repeats.
      querySerializer: { array: { style: "form", explode: true } },
      fetch: retrying((request) => fetch(request), options.attempts ?? 8),
    });
  }

  /** Stores pictures, in one request; a file that is no picture fails alone. */
  async add(
    files: (Blob | File)[],
    options: { metadata?: object | object[]; tokens?: number } = {},
  ): Promise<Upload[]> {
    const form = new FormData();
    for (const file of files) form.append("file", file);
    if (options.metadata) form.append("metadata", JSON.stringify(options.metadata));
    if (options.tokens) form.append("tokens", String(options.tokens));
    const { data, error, response } = await this.api.POST("/images", {
      params: {
        query: this.#query,
        // The same in every attempt.
        header: { "idempotency-key": crypto.randomUUID() },
      },
      body: { file: [] },
      bodySerializer: () => form,
    });
    return (checked(data, error, response) as Schemas["UploadBody"]).images;
  }

  /** The images that match a text, best first. */
  async search(q: string, options: Omit<Search, "q" | "collection"> = {}): Promise<Hit[]> {
    const { data, error, response } = await this.api.GET("/search", {
      params: { query: { ...options, q, ...this.#query } },
    });
    return checked(data, error, response).results;
  }

  /** Answers a question about the named images, or about those that match it best. */
  async ask(question: string, options: Omit<Question, "question" | "stream"> = {}): Promise<Answer> {
    const { data, error, response } = await this.api.POST("/ask", {
      params: { query: this.#query },
      body: { ...options, question } as Schemas["AskInput"],
    });
    return checked(data, error, response) as Answer;
  }

  /** The same as pieces of text while the answer is generated; returns the whole answer. */
  async *askInPieces(
    question: string,
    options: Omit<Question, "question" | "stream"> = {},
  ): AsyncGenerator<string, Answer> {
    const { data, error, response } = await this.api.POST("/ask", {
      params: { query: this.#query },
      body: { ...options, question, stream: true } as Schemas["AskInput"],
      parseAs: "stream",
    });
    const body = checked(data, error, response) as unknown as ReadableStream<Uint8Array>;
    for await (const { name, data: text } of events(body)) {
      const value: unknown = JSON.parse(text);
      if (name === "piece") yield (value as { text: string }).text;
      if (name === "done") return value as Answer;
      if (name === "error") throw problem(value, 500);
    }
    throw new Error("The connection ended before the answer did.");
  }
}

function checked<T>(data: T | undefined, error: unknown, response: Response): T {
  if (data === undefined) throw problem(error, response.status);
  return data;
}

function problem(value: unknown, status: number): PrecisError {
  const members = (typeof value === "object" && value ? value : {}) as Record<string, unknown>;
  return new PrecisError(
    typeof members["status"] === "number" ? members["status"] : status,
    typeof members["title"] === "string" ? members["title"] : `HTTP status ${status}`,
    typeof members["detail"] === "string" ? members["detail"] : undefined,
  );
}
