// The Node peer: the `ws` package as its documentation shows it. On `/worker` and `/requester` a plain broker.
import { randomUUID } from 'node:crypto'
import { WebSocketServer, WebSocket } from 'ws'

const TIMEOUT = 30_000
const CAPACITY = 16

const clients = new Map()
const workers = new Set()
const queue = []

function client(ws) {
  let clientId = null
  ws.on('message', (text) => {
    const message = JSON.parse(text)
    switch (message.type) {
      case 'heartbeat':
        ws.send(JSON.stringify({ type: 'heartbeat' }))
        break
      case 'c_client_register':
        clientId = message.client_id
        clients.set(clientId, ws)
        ws.send(
          JSON.stringify({
            type: 'registration_success',
            client_id: clientId,
            user_id: message.user_id,
            heartbeat_interval: 25,
          }),
        )
        break
      case 'publish': {
        const push = JSON.stringify(message.data)
        for (const each of clients.values()) {
          if (each.readyState === WebSocket.OPEN) each.send(push)
        }
        break
      }
      default:
        ws.send(JSON.stringify({ type: 'error', code: 'unknown_type' }))
    }
  })
  ws.on('close', () => clients.delete(clientId))
  ws.on('error', () => ws.terminate())
}

function answer(requester, id, success, data, error, worker) {
  requester.send(JSON.stringify({ request_id: id, success, data, error, processed_by: worker }))
}

function assign(requester, request) {
  let worker = null
  for (const each of workers) {
    if (worker === null || each.outstanding.size < worker.outstanding.size) worker = each
  }
  if (worker === null) {
    answer(requester, request.request_id, false, null, 'No available workers', null)
    return
  }
  if (worker.outstanding.size >= CAPACITY) {
    queue.push([requester, request])
    return
  }
  const id = request.request_id
  const timer = setTimeout(() => {
    worker.outstanding.delete(id)
    answer(requester, id, false, null, 'Worker response timeout', worker.name)
  }, TIMEOUT)
  worker.outstanding.set(id, { requester, request, timer })
  worker.ws.send(
    JSON.stringify({
      type: 'request',
      msg_id: id,
      timestamp: Date.now() / 1000,
      data: { action: request.command, params: request.data },
    }),
  )
}

function work(ws) {
  const worker = { ws, name: randomUUID(), outstanding: new Map() }
  workers.add(worker)
  ws.on('message', (text) => {
    const message = JSON.parse(text)
    if (message.type !== 'response') return
    const { request_id: id, success, result, error } = message.data
    const pending = worker.outstanding.get(id)
    if (pending === undefined) return
    worker.outstanding.delete(id)
    clearTimeout(pending.timer)
    answer(pending.requester, id, success, result, error, worker.name)
    if (queue.length > 0) assign(...queue.shift())
  })
  ws.on('close', () => {
    workers.delete(worker)
    for (const { requester, request, timer } of worker.outstanding.values()) {
      clearTimeout(timer)
      assign(requester, request)
    }
  })
  ws.on('error', () => ws.terminate())
}

function ask(ws) {
  ws.on('message', (text) => assign(ws, JSON.parse(text)))
  ws.on('error', () => ws.terminate())
}

const roles = { '/worker': work, '/requester': ask }
const server = new WebSocketServer({ host: '127.0.0.1', port: Number(process.argv[2]), backlog: 4096 })
server.on('connection', (ws, request) => (roles[request.url] ?? client)(ws))
