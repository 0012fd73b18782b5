import { start } from '../page/start'
import { ClientPage } from './client-page'

start((session) => <ClientPage {...session} />)
