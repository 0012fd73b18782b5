import { start } from '../page/start'
import { DeskPage } from './desk-page'

start((session) => <DeskPage {...session} />)
