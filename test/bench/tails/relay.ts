// The floor: a relay of nothing but Bun.listen and Bun.connect. It has no limits, no deadlines and no log, and does not
// look at certificates: what its round trips take is the runtime's and the kernel's share. Arguments: its port, the
// backend's port, the folder with the certificates.

import { readFileSync } from "node:fs";

interface Side {
  other?: Bun.Socket<Side>;
  early: Buffer[];
}

const [port, backend, certs] = process.argv.slice(2);
const pem = (name: string) => readFileSync(`${certs}/${name}`, "utf8");

const both = {
  data({ data: { other, early } }: Bun.Socket<Side>, chunk: Buffer) {
    if (other === undefined) return void early.push(chunk);
    // Messages are small, and the next one comes after the answer.
    if (other.write(chunk) !== chunk.length) throw new Error("the relay has no backpressure");
  },
  end: (socket: Bun.Socket<Side>) => void socket.end(),
  close: ({ data }: Bun.Socket<Side>) => void data.other?.end(),
  error: (socket: Bun.Socket<Side>) => void socket.terminate(),
};

Bun.listen<Side>({
  hostname: "127.0.0.1",
  port: Number(port),
  tls: {
    ca: pem("ca.crt"),
    cert: pem("server.crt"),
    key: pem("server.key"),
    requestCert: true,
    rejectUnauthorized: true,
    // TLS 1.3 alone, without tickets.
    secureOptions: 0x04000000 | 0x10000000 | 0x08000000 | 0x4000,
  },
  socket: {
    ...both,
    open: (client) => void (client.data = { early: [] }),
    handshake(client, success) {
      if (!success || !client.authorized) return void client.terminate();
      void Bun.connect<Side>({
        hostname: "127.0.0.1",
        port: Number(backend),
        data: { other: client, early: [] },
        socket: {
          ...both,
          open(target) {
            for (const chunk of client.data.early.splice(0)) target.write(chunk);
            client.data.other = target;
          },
        },
      });
    },
  },
});
