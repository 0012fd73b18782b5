/** The outbox on disk. Loaded when it is first needed. */
import type { OutboxItem, OutboxStore } from './outbox-store'

const NAME = 'pgrelay-outbox'
const VERSION = 1

function settle<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })
}

/** Rejects where the browser offers no storage, as in some private windows. */
export async function openIndexedDb(owner: string): Promise<OutboxStore> {
  const opening = indexedDB.open(NAME, VERSION)
  opening.onupgradeneeded = () => {
    opening.result.createObjectStore('items', { keyPath: 'id' }).createIndex('owner', 'owner')
  }
  const db = await settle(opening)
  // Another tab wants a newer version: it must not wait for this one.
  db.onversionchange = () => db.close()
  const run = async <T>(mode: IDBTransactionMode, use: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> => {
    const transaction = db.transaction('items', mode)
    const written = new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => resolve()
      transaction.onabort = () => reject(transaction.error)
    })
    const result = await settle(use(transaction.objectStore('items')))
    await written
    return result
  }
  return {
    isDurable: true,
    all: () => run('readonly', (store) => store.index('owner').getAll(owner) as IDBRequest<OutboxItem[]>),
    put: async (item) => void (await run('readwrite', (store) => store.put(item))),
    delete: async (id) => void (await run('readwrite', (store) => store.delete(id))),
    close: () => db.close(),
  }
}
